//! What people read: one sentence for every error, in English and Chinese. Programs read the code.

use crate::api::client_address;
use crate::api::error::ApiError;
use crate::api::language::Language;
use crate::domain::limit::wording;
use crate::gateway::error::{Forbidden, GatewayError, JobRefusal, URL_MAX_BYTES, UrlRefusal};

/// The sentence for an error. Never says anything about the inside.
pub(crate) fn message_of(error: &ApiError, language: Language) -> String {
    let fixed = match error {
        ApiError::Gateway(inner) => return gateway_message(inner, language),
        ApiError::Limited(refusal) => return refusal.message(language),
        ApiError::AddressLimited(refusal) => return client_address::message(refusal, language),
        ApiError::PayloadTooLarge { max_bytes } => {
            return match language {
                Language::English => format!("The body is too large: at most {max_bytes} bytes"),
                Language::Chinese => format!("请求体过大: 最多 {max_bytes} 字节"),
            };
        }
        ApiError::BasicNotAllowed => (
            "HTTP Basic is accepted over TLS only; sign the request instead",
            "HTTP Basic 认证仅限 TLS 连接; 请改用请求签名",
        ),
        ApiError::OperatorUnauthenticated => ("A valid bearer token is required", "需要有效的 Bearer 令牌"),
        ApiError::TlsExpected => {
            ("TLS is spoken on this port; begin the address with https://", "此端口仅支持 TLS; 请使用 https:// 地址")
        }
        ApiError::HostNotAllowed => (
            "The Host header does not name this server; if it is a name of its own, add it to [admin] hosts",
            "Host 请求头与本服务不符; 若为本服务的名称, 请加入 [admin] hosts",
        ),
        ApiError::PathNotFound => ("There is no such path", "路径不存在"),
        ApiError::MethodNotAllowed { .. } => ("The method is not allowed here", "此路径不支持该请求方法"),
        ApiError::BodyTimeout => ("The body did not arrive in time", "请求体未在规定时间内到达"),
        ApiError::AnswerTimeout => (
            "There was no answer in time. What was begun goes on; send the request again with the same Idempotency-Key \
             or read the object to learn what came of it",
            "处理超时, 已开始的操作会继续; 请使用相同的 Idempotency-Key 重试或查询该对象以获知结果",
        ),
        ApiError::UnsupportedMediaType => (
            "The body must be JSON: Content-Type application/json without a Content-Encoding",
            "请求体必须为 JSON: Content-Type 须为 application/json 且不得使用 Content-Encoding",
        ),
        ApiError::ChannelFailed { .. } => ("The channel certainly did not do it", "支付渠道未执行该操作"),
    };
    String::from(language.choose(fixed.0, fixed.1))
}

fn url_refusal_in_chinese(refusal: &UrlRefusal) -> String {
    String::from(match refusal {
        UrlRefusal::TooLong => return format!("长度超过 {URL_MAX_BYTES} 字节"),
        UrlRefusal::Hides => "含有空白字符, 控制字符或反斜杠",
        UrlRefusal::NoUrl(_) => "不是有效的 URL",
        UrlRefusal::NotHttps => "必须以 https:// 开头",
        UrlRefusal::Credentials => "不得包含用户名或密码",
        UrlRefusal::Fragment => "不得包含片段 (#)",
        UrlRefusal::NoHost => "没有主机名",
        UrlRefusal::PrivateAddress => "其地址不在公共互联网上",
        UrlRefusal::ThisMachine => "其主机是本机",
        UrlRefusal::LastDot => "主机名不得以点结尾",
        UrlRefusal::NoName => "主机名格式无效",
        UrlRefusal::PrivateName => "主机名不属于公共互联网",
        UrlRefusal::Port(ports) => return format!("端口必须是以下之一: {ports}"),
    })
}

fn forbidden_in_chinese(reason: Forbidden) -> String {
    match reason {
        Forbidden::Suspended => String::from("商户已被停用"),
        Forbidden::RuleOfFile => String::from("该规则来自配置文件, 请在配置文件中修改"),
        Forbidden::EndpointsMax(endpoints_max) => format!("每个商户最多 {endpoints_max} 个 Webhook 端点"),
    }
}

fn gateway_message(error: &GatewayError, language: Language) -> String {
    let fixed = match error {
        GatewayError::InvalidRequest(_) => ("The request is not valid", "请求无效"),
        GatewayError::Unauthenticated | GatewayError::InvalidNonce => {
            ("The key or the signature is wrong", "密钥或签名错误")
        }
        GatewayError::SignatureExpired { .. } => {
            ("The signature's time is outside the accepted window", "签名时间超出允许范围")
        }
        GatewayError::NonceReused => ("The nonce was used before", "随机数 (nonce) 已被使用"),
        GatewayError::Forbidden(reason) => {
            return match language {
                Language::English => format!("Not allowed: {reason}"),
                Language::Chinese => format!("无权执行此操作: {}", forbidden_in_chinese(*reason)),
            };
        }
        GatewayError::JobRefused(refusal) => {
            return match (language, refusal) {
                (Language::English, refusal) => format!("Not possible now: {refusal}"),
                (Language::Chinese, JobRefusal::UnderWay(job_id)) => {
                    format!("该端点已有同类任务 {job_id} 正在进行; 请等待其结束或取消该任务")
                }
                (Language::Chinese, JobRefusal::TooMany(jobs_max)) => {
                    format!("正在进行的任务已达上限 {jobs_max} 个; 请等待其中之一结束或取消")
                }
                (Language::Chinese, JobRefusal::HasToBeDone(kind)) => format!("{kind} 类任务必须完成, 不可取消"),
            };
        }
        GatewayError::NotFound(what) => {
            return match language {
                Language::English => format!("There is no such {what}"),
                Language::Chinese => String::from("对象不存在"),
            };
        }
        GatewayError::OrderExists { number, .. } => {
            return match language {
                Language::English => format!("The order number is in use by {number}"),
                Language::Chinese => format!("订单号已被 {number} 使用"),
            };
        }
        GatewayError::InvalidState { status } => {
            return match language {
                Language::English => format!("Not possible in status {status}"),
                Language::Chinese => format!("当前状态 {status} 不允许此操作"),
            };
        }
        GatewayError::IdempotencyInProgress => {
            ("A request with this idempotency key is still running", "使用相同幂等键的请求仍在处理中")
        }
        GatewayError::IdempotencyMismatch => {
            ("This idempotency key was used with another body", "该幂等键已用于不同的请求体")
        }
        GatewayError::AmountTooLarge { max_minor } => {
            return match language {
                Language::English => format!("The amount is too large: at most {max_minor} minor units"),
                Language::Chinese => format!("金额过大: 最多 {max_minor} 个最小货币单位"),
            };
        }
        GatewayError::CurrencyNotSupported(currency) => {
            return match language {
                Language::English => format!("The currency {currency} is not supported"),
                Language::Chinese => format!("不支持币种 {currency}"),
            };
        }
        GatewayError::PreAuthNotSupported => {
            ("The payment channel does not support pre-authorization", "当前支付渠道不支持预授权功能")
        }
        GatewayError::PanRefused(field) => {
            return match language {
                Language::English => {
                    format!("The field {field} holds what looks like a card number; send a token instead")
                }
                Language::Chinese => format!("字段 {field} 疑似包含银行卡号; 请改用令牌"),
            };
        }
        GatewayError::UrlNotAllowed(reason) => {
            return match language {
                Language::English => format!("Webhooks can't be sent to this URL: {reason}"),
                Language::Chinese => format!("不允许向此 URL 发送 Webhook: {}", url_refusal_in_chinese(reason)),
            };
        }
        GatewayError::NoChannelAvailable(_) => ("No channel can take this payment now", "当前没有可用的支付渠道"),
        GatewayError::Overloaded { .. } => return String::from(wording::overloaded(language)),
        GatewayError::Held => (
            "The gateway was restored from a backup; no money moves until its payment providers were asked what happened \
             since. Nothing was done: try again later. Operators see what is left with `tollgate store hold`",
            "网关已从备份恢复, 在向支付渠道核对完毕之前暂停所有资金操作; 本次请求未执行, 请稍后重试",
        ),
        GatewayError::StorageLow => (
            "The gateway's disk has little room left; nothing new is begun until it has more",
            "网关磁盘空间不足, 暂不受理新请求",
        ),
        GatewayError::ShuttingDown => ("The gateway is stopping; try again shortly", "网关正在停止, 请稍后重试"),
        GatewayError::Internal(_) => ("Something failed inside", "内部错误"),
    };
    String::from(language.choose(fixed.0, fixed.1))
}
