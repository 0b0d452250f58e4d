//! The admin API against a scripted server.

use super::*;
use crate::cli::scripted::Scripted;

fn arguments(url: &str, token: Option<&str>) -> AdminArguments {
    AdminArguments {
        admin_url: Some(String::from(url)),
        admin_token: token.map(String::from),
        ..AdminArguments::default()
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
    let server = Scripted::start(&[(200, &first), (200, &last), (200, &first), (200, &first), (200, &last)]).await;
    let admin = Admin::new(&arguments(&server.url, Some("t")), &Context::new(Vec::new())).unwrap();
    let all = admin.list(&["merchants"], &Paging::first(150)).await.unwrap();
    assert_eq!((all.rows.len(), all.next_cursor), (4, None));
    let some = admin.list(&["merchants"], &Paging::first(3)).await.unwrap();
    assert_eq!((some.rows.len(), some.next_cursor.as_deref()), (3, Some("abc")));
    let mut from_there = Paging::first(2);
    from_there.cursor = Some(String::from("def"));
    assert_eq!(admin.list(&["merchants"], &from_there).await.unwrap().rows.len(), 2);
    let queries: Vec<String> = server.asked().iter().map(|asked| String::from(asked.uri.query().unwrap())).collect();
    let expected = ["limit=100", "limit=100&cursor=abc", "limit=3", "limit=1&cursor=abc", "limit=2&cursor=def"];
    assert_eq!(queries, expected);
}

#[tokio::test]
async fn an_empty_page_ends_a_list() {
    let server = Scripted::start(&[(200, r#"{"data":{"items":[],"next_cursor":"x"}}"#)]).await;
    let admin = Admin::new(&arguments(&server.url, Some("t")), &Context::new(Vec::new())).unwrap();
    assert!(admin.list(&["merchants"], &Paging::first(10)).await.unwrap().rows.is_empty());
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn refusals_are_told_in_words() {
    let refused = r#"{"code":"INVALID_REQUEST","message":"The request is not valid","request_id":"r",
        "errors":[{"field":"tier","message":"names no tier"}]}"#;
    let unauthenticated = r#"{"code":"UNAUTHENTICATED","message":"No token","request_id":"r"}"#;
    let elsewhere = r#"{"code":"NOT_FOUND","message":"There is no such path","request_id":"r"}"#;
    let server = Scripted::start(&[(400, refused), (401, unauthenticated), (502, "<html>"), (404, elsewhere)]).await;
    let admin = Admin::new(&arguments(&server.url, Some("t")), &Context::new(Vec::new())).unwrap();
    let mut messages = Vec::new();
    for _ in 0..4 {
        messages.push(admin.call(Method::GET, &["x"], None).await.unwrap_err().to_string());
    }
    assert!(messages[0].contains("(tier names no tier) [INVALID_REQUEST]"), "{messages:?}");
    assert!(messages[1].contains("check the admin token, which is from --admin-token"), "{messages:?}");
    assert!(messages[3].contains("[server] admin_listen"), "{messages:?}");
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
    let file = dir.path().join("handed-over");
    std::fs::write(&file, " from-file \n").unwrap();
    let named = file.to_str().unwrap();
    assert_eq!(token(&from_dir, &[("TOLLGATE_ADMIN_TOKEN_FILE", named)]).unwrap(), "Bearer from-file");
    let by_flag = AdminArguments { admin_token_file: Some(file.clone()), ..from_dir.clone() };
    assert_eq!(token(&by_flag, &variable).unwrap(), "Bearer from-file");
    let missing = AdminArguments { admin_token_file: Some(dir.path().join("missing")), ..from_dir.clone() };
    assert!(matches!(token(&missing, &variable), Err(Failure::Usage(message)) if message.contains("missing")));
    assert_eq!(token(&arguments("http://127.0.0.1:1", Some("from-flag")), &variable).unwrap(), "Bearer from-flag");
}

#[test]
fn the_address_comes_from_flag_variable_or_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let address = |arguments: &AdminArguments, environment: &[(&str, &str)]| {
        let environment = environment.iter().map(|(name, value)| (String::from(*name), String::from(*value))).collect();
        arguments.address(&Context::new(environment)).unwrap()
    };
    let file = dir.path().join("tollgate.toml");
    std::fs::write(&file, "[server]\nadmin_listen = \"0.0.0.0:9081\"\n").unwrap();
    let with_file = AdminArguments { config: Some(file.clone()), ..AdminArguments::default() };
    assert_eq!(address(&with_file, &[]), "http://127.0.0.1:9081", "one that listens on all is reached on loopback");
    let variables = [("TOLLGATE_CONFIG", file.to_str().unwrap())];
    assert_eq!(address(&AdminArguments::default(), &variables), "http://127.0.0.1:9081");
    assert_eq!(address(&with_file, &[("TOLLGATE_SERVER__ADMIN_LISTEN", "127.0.0.1:7")]), "http://127.0.0.1:7");
    let tls = [("TOLLGATE_SERVER__ADMIN_TLS_CERTIFICATE", "a.pem"), ("TOLLGATE_SERVER__ADMIN_TLS_KEY", "b.pem")];
    assert_eq!(address(&with_file, &tls), "https://127.0.0.1:9081");
    assert_eq!(address(&with_file, &[("TOLLGATE_ADMIN_URL", "http://a:1")]), "http://a:1");
    let by_flag = AdminArguments { admin_url: Some(String::from("http://b:2")), ..with_file };
    assert_eq!(address(&by_flag, &[("TOLLGATE_ADMIN_URL", "http://a:1")]), "http://b:2");
}

#[test]
fn an_installed_gateways_data_are_found_only_when_there_are_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (default, installed) = (at("data"), at("installed"));
    let found = |configured: &str| data_directory_of(at(configured), &default, &installed);
    assert_eq!(found("data"), default);
    std::fs::create_dir(&installed).unwrap();
    assert_eq!((found("data"), found("other")), (installed.clone(), at("other")));
    std::fs::create_dir(&default).unwrap();
    assert_eq!(found("data"), default);
}
