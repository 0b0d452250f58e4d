//! The program as people and scripts use it: how it finds the gateway, what it says when it can't, tables, pages, colours,
//! completions and the manual.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::House;

const BINARY: &str = env!("CARGO_BIN_EXE_tollgate");

/// What came of one command line.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    /// The error in JSON on standard error.
    fn error(&self) -> Value {
        serde_json::from_str::<Value>(&self.err).unwrap_or_else(|error| panic!("{error}: {}", self.err))["error"].take()
    }
}

/// Runs the program with these arguments and no other environment than `variables`.
fn run_with(arguments: &[&str], variables: &[(&str, &str)], directory: &Path) -> Ran {
    let mut command = Command::new(BINARY);
    command.args(arguments).env_clear().envs(variables.iter().copied()).current_dir(directory).stdin(Stdio::null());
    Ran::of(command.output().unwrap())
}

fn run(arguments: &[&str]) -> Ran {
    run_with(arguments, &[], &std::env::temp_dir())
}

/// Runs it against a house's gateway.
async fn run_at(house: &House, line: &str) -> Ran {
    let variables = [("TOLLGATE_ADMIN_URL", &house.admin_url), ("TOLLGATE_ADMIN_TOKEN", &house.admin_token)]
        .map(|(name, value)| (name, value.clone()));
    let words: Vec<String> = line.split(' ').map(String::from).collect();
    let directory = house.directory.path().to_owned();
    let ran = tokio::task::spawn_blocking(move || {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        run_with(&words, &variables, &directory)
    });
    ran.await.unwrap()
}

#[test]
fn a_typo_is_answered_with_what_was_meant() {
    let command = run(&["merchnat", "list"]).expect(2);
    assert!(command.err.contains("'merchant'") && command.out.is_empty(), "{}", command.err);
    let flag = run(&["payment", "list", "--chanel", "stripe"]).expect(2);
    assert!(flag.err.contains("--channel"), "{}", flag.err);
    let value = run(&["routing", "set", "--mode", "cheap"]).expect(2);
    assert!(value.err.contains("cost"), "{}", value.err);
    let misplaced = run(&["--listen", "127.0.0.1:1", "merchant", "list"]).expect(2);
    assert!(misplaced.err.contains("--listen"), "{}", misplaced.err);
    let json = run(&["payment", "list", "--json", "--chanel", "stripe"]).expect(2);
    assert_eq!(json.error()["exit_code"], 2);
}

#[test]
fn version_and_help_have_a_short_and_a_long_form() {
    let short = run(&["-V"]).expect(0);
    assert_eq!(short.out, format!("tollgate {}\n", env!("CARGO_PKG_VERSION")));
    let long = run(&["--version"]).expect(0);
    assert!(long.out.starts_with(short.out.trim_end()) && long.out.contains("store format 1"), "{}", long.out);
    assert!(!run(&["payment", "list", "-h"]).expect(0).out.contains("Examples:"));
    let help = run(&["payment", "list", "--help"]).expect(0).out;
    assert!(help.contains("Examples:") && help.contains("tollgate payment list --status failed"), "{help}");
}

#[test]
fn without_a_gateway_it_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{nobody}");
    let closed = run(&["status", "--url", &url, "--token", "t"]).expect(1);
    assert!(closed.err.contains("nothing answers at") && closed.err.contains("`tollgate serve`"), "{}", closed.err);
    let as_json = run(&["status", "--url", &url, "--token", "t", "--json"]).expect(1);
    assert_eq!(as_json.error()["exit_code"], 1);
    assert!(as_json.out.is_empty() && as_json.error()["message"].as_str().unwrap().contains(&url));
    let no_token = run_with(&["status"], &[], directory.path()).expect(2);
    assert!(no_token.err.contains("no admin token: ") && no_token.err.contains("--data-dir"), "{}", no_token.err);
    let no_file = run(&["status", "--token-file", "/nowhere/token"]).expect(2);
    assert!(no_file.err.contains("/nowhere/token"), "{}", no_file.err);
    let no_address = run(&["status", "--url", "8081", "--token", "t"]).expect(2);
    assert!(no_address.err.contains("is not an address such as"), "{}", no_address.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_is_found_by_its_configuration_alone() {
    let house = House::start().await;
    let file = house.directory.path().join("config.toml");
    let data_dir = house.gateway.config().storage.dir.display().to_string();
    let admin_listen = house.admin_url.trim_start_matches("http://");
    let config = format!("[server]\nadmin_listen = \"{admin_listen}\"\n[storage]\ndir = \"{data_dir}\"\n");
    std::fs::write(&file, config).unwrap();
    let directory = house.directory.path().to_owned();
    let ran = tokio::task::spawn_blocking(move || {
        let file = file.to_str().unwrap();
        let by_flag = run_with(&["status", "--json", "--config", file], &[], &directory);
        let by_variable = run_with(&["status"], &[("TOLLGATE_CONFIG", file)], &directory);
        (by_flag, by_variable)
    });
    let (by_flag, by_variable) = ran.await.unwrap();
    let status = by_flag.expect(0).json();
    assert_eq!((&status["ready"], &status["mode"]), (&json!(true), &json!("sandbox")));
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert!(status["channels"].as_array().unwrap().iter().any(|channel| channel["name"] == "stripe"));
    let shown = by_variable.expect(0).out;
    for part in ["ready", "sandbox", "stripe", "closed", "fine, change"] {
        assert!(shown.contains(part), "{part} is missing in\n{shown}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_comes_by_a_pipe_is_read_once() {
    let house = House::start().await;
    let data_dir = house.gateway.config().storage.dir.display().to_string();
    let admin_listen = house.admin_url.trim_start_matches("http://");
    // Where the gateway is, and what is asked about, come from the same pipe.
    let config = format!("[server]\nadmin_listen = \"{admin_listen}\"\n[storage]\ndir = \"{data_dir}\"\n");
    let directory = house.directory.path().to_owned();
    let ran = tokio::task::spawn_blocking(move || {
        let by_pipe = |command: &str| {
            let script = format!("exec {BINARY} {command} --config <(printf %s \"$TEXT\")");
            let mut bash = Command::new("bash");
            bash.args(["-c", &script]).env_clear().env("TEXT", &config).current_dir(&directory).stdin(Stdio::null());
            Ran::of(bash.output().unwrap())
        };
        ["status --json", "check-config --diff --json"].map(by_pipe)
    });
    let [status, diff] = ran.await.unwrap();
    assert_eq!(status.expect(0).json()["ready"], true);
    // That the house has no files to read again is what its gateway says, which was found.
    assert_eq!(diff.expect(2).error()["message"].as_str().unwrap().rsplit(' ').next(), Some("[NOT_FOUND]"));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_counts_what_the_gateway_has_done() {
    let house = House::start().await;
    let merchant = house.merchant_limited(json!({ "per_second": 1, "burst": 1 })).await;
    for order in ["O-1", "O-2", "O-3"] {
        merchant.pay(order, 100, json!({})).await;
    }
    let status = run_at(&house, "status --json").await.expect(0).json();
    let limits = &status["limits"];
    assert_eq!(limits["admitted"].as_u64().unwrap() + limits["refused"].as_u64().unwrap(), 3, "{limits}");
    assert_eq!(limits["refused"], limits["refused_by"]["second"], "{limits}");
    assert_eq!(limits["merchants_active"], 1);
    house.gateway.begin_stopping();
    let stopping = run_at(&house, "status").await.expect(1);
    assert!(stopping.out.contains("stopping"), "{}", stopping.out);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_says_what_to_look_at() {
    let house = House::start().await;
    let wrong = run_at(&house, "merchant list --admin-token wrong").await.expect(1);
    assert!(wrong.err.contains("check the admin token, which is from --admin-token"), "{}", wrong.err);
    let merchants = format!("merchant list --admin-url {}", house.url);
    let merchants = run_at(&house, &merchants).await.expect(1);
    assert!(merchants.err.contains("merchants' listener has no admin API"), "{}", merchants.err);
    let none = run_at(&house, "payment show PY20250124104000abcdefgh --json").await.expect(1);
    assert_eq!(none.error()["answer"]["code"], "NOT_FOUND", "{}", none.err);
    assert!(none.error()["answer"]["request_id"].as_str().unwrap().starts_with("req_"), "{}", none.err);
    let fixed = run_at(&house, "reload").await.expect(1);
    assert!(fixed.err.contains("[NOT_FOUND]"), "this one has no file to read again: {}", fixed.err);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_come_in_pages_that_go_on() {
    let house = House::start().await;
    for _ in 0..5 {
        house.merchant("starter").await;
    }
    let first = run_at(&house, "merchant list --limit 2").await.expect(0);
    assert_eq!(first.out.lines().count(), 3, "{}", first.out);
    let cursor = first.err.split("--cursor ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(first.err.contains("--all"), "{}", first.err);
    let next = run_at(&house, &format!("merchant list --limit 2 --cursor {cursor} --json")).await.expect(0);
    assert!(next.err.is_empty(), "{}", next.err);
    let next = next.json();
    assert_eq!(next["items"].as_array().unwrap().len(), 2);
    assert!(next["next_cursor"].is_string());
    let all = run_at(&house, "merchant list --all --json").await.expect(0).json();
    assert_eq!((all["items"].as_array().unwrap().len(), &all["next_cursor"]), (5, &Value::Null));
    assert_eq!(all["items"][2], next["items"][0]);
    for list in ["payment list", "pre-auth list", "webhook list", "audit list", "erasure list", "routing versions"] {
        let listed = run_at(&house, &format!("{list} --json")).await.expect(0).json();
        assert!(listed["items"].is_array() && listed.get("next_cursor").is_some(), "{list}: {listed}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_are_found_by_order_and_time() {
    let house = House::start().await;
    let merchant = house.merchant("business").await;
    for order in ["O-1", "O-2"] {
        merchant.pay(order, 4_500, json!({})).await.expect(201, "SUCCESS");
    }
    let orders = async |line: &str| {
        let listed = run_at(&house, line).await.expect(0).json();
        let rows = listed["items"].as_array().unwrap().clone();
        rows.into_iter().map(|row| row["order_no"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(orders("payment list --json --order O-1").await, ["O-1"]);
    assert_eq!(orders("payment list --json --from 2020-01-01T00:00:00Z").await, ["O-2", "O-1"]);
    assert!(orders("payment list --json --to 2020-01-01T00:00:00Z").await.is_empty());
    assert!(orders("pre-auth list --json --order O-1").await.is_empty());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn colours_are_for_terminals_unless_somebody_asks() {
    let house = House::start().await;
    house.merchant("starter").await;
    let (url, token) = (house.admin_url.clone(), house.admin_token.clone());
    let ran = tokio::task::spawn_blocking(move || {
        let list = ["merchant", "list", "--url", &url, "--token", &token];
        let list_with = |more: &[&str], variables: &[(&str, &str)]| {
            run_with(&[&list[..], more].concat(), variables, &std::env::temp_dir()).expect(0).out
        };
        let plain = list_with(&[], &[]);
        assert!(!plain.contains('\u{1b}'), "{plain:?}");
        assert_eq!(list_with(&["--color", "never"], &[("CLICOLOR_FORCE", "1")]), plain);
        let colored = list_with(&["--color", "always"], &[]);
        assert!(colored.contains("\u{1b}[32mactive\u{1b}[0m"), "{colored:?}");
        assert_eq!(list_with(&["--color", "always"], &[("NO_COLOR", "1")]), colored);
        assert_eq!(list_with(&[], &[("CLICOLOR_FORCE", "1")]), colored);
        let json = list_with(&["--color", "always", "--json"], &[]);
        assert!(!json.contains('\u{1b}'), "{json:?}");
        let wrong = run(&["--color", "always", "merchant", "list", "--url", &url, "--token", "wrong"]).expect(1).err;
        assert!(wrong.starts_with("\u{1b}[1;31mtollgate:\u{1b}[0m "), "{wrong:?}");
        assert!(run(&["--color", "always", "--help"]).expect(0).out.contains('\u{1b}'));
        assert!(!run(&["--help"]).expect(0).out.contains('\u{1b}'));
    });
    ran.await.unwrap();
    house.stop().await;
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = Command::new(BINARY)
        .args(["man", "--markdown"])
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

/// What bash offers for a line that ends where the cursor is.
fn completed(script: &Path, line: &str) -> Vec<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let (last, before) = (words[words.len() - 1], words[words.len() - 2]);
    let program = format!(
        "set -eu; source '{}'; COMP_WORDS=({}); COMP_CWORD={}; _tollgate tollgate '{last}' '{before}'; \
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        quoted.join(" "),
        words.len() - 1
    );
    let output = Command::new("bash").args(["--norc", "-c", &program]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(String::from).collect()
}

#[test]
fn bash_completes_commands_flags_and_values() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("tollgate.bash");
    std::fs::write(&script, run(&["completions", "bash"]).expect(0).out).unwrap();
    assert_eq!(completed(&script, "tollgate merch"), ["merchant"]);
    assert_eq!(completed(&script, "tollgate merchant sus"), ["suspend"]);
    assert_eq!(completed(&script, "tollgate payment list --cha"), ["--channel"]);
    assert_eq!(completed(&script, "tollgate routing set --mode ge"), ["geographic"]);
    for (shell, known) in
        [("zsh", "geographic"), ("fish", "geographic"), ("elvish", "suspend"), ("powershell", "suspend")]
    {
        assert!(run(&["completions", shell]).expect(0).out.contains(known), "{shell}");
    }
}

#[test]
fn every_command_has_its_manual_page() {
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("share/man1");
    let written = run(&["man", "--dir", pages.to_str().unwrap()]).expect(0);
    let names: Vec<String> =
        std::fs::read_dir(&pages).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(written.out.starts_with(&format!("{} pages", names.len())), "{}", written.out);
    for page in ["tollgate.1", "tollgate-merchant.1", "tollgate-merchant-key-add.1", "tollgate-pre-auth-list.1"] {
        let text = std::fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.contains(".TH ") && text.contains(".SH NAME"), "{page}: {text}");
    }
    let list = std::fs::read_to_string(pages.join("tollgate-payment-list.1")).unwrap();
    assert!(list.contains("tollgate payment list \\-\\-status failed"), "the examples are in it: {list}");
    assert!(run(&["man"]).expect(0).out.contains(".TH tollgate 1"));
}

#[test]
fn the_documented_command_line_is_the_real_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md");
    let documented = std::fs::read_to_string(path).unwrap();
    let real = run(&["man", "--markdown"]).expect(0).out;
    for (number, (documented, real)) in documented.lines().zip(real.lines()).enumerate() {
        assert_eq!(documented, real, "docs/cli.md:{}; run `cargo run -- man --markdown > docs/cli.md`", number + 1);
    }
    assert_eq!(documented.len(), real.len(), "run `cargo run -- man --markdown > docs/cli.md`");
}
