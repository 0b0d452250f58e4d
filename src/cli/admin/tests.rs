//! The admin API against a scripted server.

use super::*;
use crate::cli::scripted::Scripted;

fn arguments(url: &str, token: Option<&str>) -> AdminArguments {
    AdminArguments {
        admin_url: String::from(url),
        admin_token: token.map(String::from),
        ca_file: None,
        config: None,
        data_dir: None,
        json: false,
    }
}

#[tokio::test]
async fn calls_carry_the_token_and_encode_names() {
    let server = Scripted::start(&[(200, r#"{"code":"SUCCESS","message":"","data":{"a":1}}"#)]).await;
    let admin = Admin::new(&arguments(&server.url, Some("secret")), &Context::new(Vec::new())).unwrap();
    let data = admin.call(Method::GET, &["merchants", "../m 1"], None).await.unwrap();
    assert_eq!(data, serde_json::json!({ "a": 1 }));
    let asked = &server.asked()[0];
    assert_eq!(asked.header("authorization"), "Bearer secret");
    assert_eq!(asked.uri.path(), "/admin/v1/merchants/..%2Fm%201");
}

#[tokio::test]
async fn lists_are_followed_to_the_last_page_or_the_limit() {
    let page = |cursor: &str| format!(r#"{{"data":{{"items":[1,2],"next_cursor":{cursor}}}}}"#);
    let (first, last) = (page("\"abc\""), page("null"));
    let server = Scripted::start(&[(200, &first), (200, &last), (200, &first), (200, &first)]).await;
    let admin = Admin::new(&arguments(&server.url, Some("t")), &Context::new(Vec::new())).unwrap();
    assert_eq!(admin.list(&["merchants"], 150).await.unwrap().len(), 4);
    assert_eq!(admin.list(&["merchants"], 3).await.unwrap().len(), 3);
    let queries: Vec<String> = server.asked().iter().map(|asked| String::from(asked.uri.query().unwrap())).collect();
    assert_eq!(queries, ["limit=100", "limit=100&cursor=abc", "limit=3", "limit=1&cursor=abc"]);
}

#[tokio::test]
async fn an_empty_page_ends_a_list() {
    let server = Scripted::start(&[(200, r#"{"data":{"items":[],"next_cursor":"x"}}"#)]).await;
    let admin = Admin::new(&arguments(&server.url, Some("t")), &Context::new(Vec::new())).unwrap();
    assert!(admin.list(&["merchants"], 10).await.unwrap().is_empty());
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn refusals_are_told_in_words() {
    let refused = r#"{"code":"INVALID_REQUEST","message":"The request is not valid","request_id":"r",
        "errors":[{"field":"tier","message":"names no tier"}]}"#;
    let unauthenticated = r#"{"code":"UNAUTHENTICATED","message":"No token","request_id":"r"}"#;
    let server = Scripted::start(&[(400, refused), (401, unauthenticated), (502, "<html>")]).await;
    let admin = Admin::new(&arguments(&server.url, Some("t")), &Context::new(Vec::new())).unwrap();
    let mut messages = Vec::new();
    for _ in 0..3 {
        messages.push(admin.call(Method::GET, &["x"], None).await.unwrap_err().to_string());
    }
    assert!(messages[0].contains("(tier names no tier) [INVALID_REQUEST]"), "{messages:?}");
    assert!(messages[1].ends_with("check the admin token"), "{messages:?}");
    assert!(messages[2].contains("502"), "{messages:?}");
}

#[test]
fn the_token_comes_from_flag_variable_or_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mut from_dir = arguments("http://127.0.0.1:1", None);
    from_dir.data_dir = Some(dir.path().to_path_buf());
    let token = |arguments: &AdminArguments, environment: &[(&str, &str)]| {
        let environment = environment.iter().map(|(name, value)| (String::from(*name), String::from(*value))).collect();
        let admin = Admin::new(arguments, &Context::new(environment))?;
        Ok::<_, Failure>(String::from(admin.headers["authorization"].to_str().unwrap()))
    };
    assert!(matches!(token(&from_dir, &[]), Err(Failure::Usage(message)) if message.contains("admin.token")));
    std::fs::write(dir.path().join("admin.token"), "from-dir\n").unwrap();
    assert_eq!(token(&from_dir, &[]).unwrap(), "Bearer from-dir");
    let variable = [("TOLLGATE_ADMIN_TOKEN", "from-env")];
    assert_eq!(token(&from_dir, &variable).unwrap(), "Bearer from-env");
    assert_eq!(token(&arguments("http://127.0.0.1:1", Some("from-flag")), &variable).unwrap(), "Bearer from-flag");
}
