//! The Alipay emulator's answers other than success.

use serde_json::{Value, json};

/// A failure of the business kind.
pub(super) fn business(sub_code: &str, sub_msg: &str) -> Value {
    json!({ "code": "40004", "msg": "Business Failed", "sub_code": sub_code, "sub_msg": sub_msg })
}

/// An argument of the gateway that is wrong.
pub(super) fn invalid(sub_code: &str, sub_msg: &str) -> Value {
    json!({ "code": "40002", "msg": "Invalid Arguments", "sub_code": sub_code, "sub_msg": sub_msg })
}

/// An argument that is missing.
pub(super) fn missing(name: &str) -> Value {
    json!({
        "code": "40001",
        "msg": "Missing Required Arguments",
        "sub_code": format!("isv.missing-{}", name.replace('_', "-")),
        "sub_msg": format!("{name} is missing"),
    })
}

/// Something is wrong inside; anything may have happened.
pub(super) fn system_error() -> Value {
    json!({
        "code": "20000",
        "msg": "Service Currently Unavailable",
        "sub_code": "isp.unknow-error",
        "sub_msg": "The system is busy",
    })
}

/// Over the limit of calls.
pub(super) fn call_limited() -> Value {
    json!({
        "code": "40005",
        "msg": "Call Limited",
        "sub_code": "isv.app-call-limited",
        "sub_msg": "The application calls too often",
    })
}

/// The payer has to confirm on the telephone.
pub(super) fn waiting(out_trade_no: &str) -> Value {
    json!({ "code": "10003", "msg": " order success pay inprocess", "out_trade_no": out_trade_no })
}
