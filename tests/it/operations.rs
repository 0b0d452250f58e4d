//! The program as a service: what its manager is told, and how it is asked whether it is well.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// As long as a test waits for what has to happen.
const SOON: Duration = Duration::from_secs(30);

/// A gateway in a process of its own, in a temporary directory.
struct Service {
    process: Child,
    directory: TempDir,
    ready: Value,
}

impl Service {
    /// Started with a service manager at `manager` and these configuration lines.
    fn start(directory: TempDir, config: &str, variables: &[(&str, &str)]) -> Self {
        std::fs::write(directory.path().join("config.toml"), config).unwrap();
        Self::start_reading(directory, Stdio::null(), variables)
    }

    /// The same with the `config.toml` that is there already, and `input` to read from.
    fn start_reading(directory: TempDir, input: Stdio, variables: &[(&str, &str)]) -> Self {
        let mut process = program(directory.path(), &["serve", "--listen", "127.0.0.1:0"])
            .args(["--admin-listen", "127.0.0.1:0"])
            .envs(variables.iter().copied())
            .stdin(input)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let ready = lines.by_ref().map(Result::unwrap).find(|line| line.contains("\"ready\"")).unwrap();
        // Read to the end, so that it never waits for somebody to read it.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { process, ready: serde_json::from_str(&ready).unwrap(), directory }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    fn address(&self, listener: &str) -> &str {
        self.ready[listener].as_str().unwrap()
    }

    /// A command of the operator's beside it.
    fn command(&self, arguments: &[&str]) -> Output {
        program(self.directory.path(), arguments).output().unwrap()
    }

    /// Asked to stop, it does, in good order.
    fn stop(mut self) -> TempDir {
        self.signal(Signal::TERM);
        assert!(self.process.wait().unwrap().success());
        std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program with nothing of this process's surroundings but what it needs.
fn program(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(arguments).args(["--config".as_ref(), directory.join("config.toml").as_os_str()]);
    command.env_clear().env("TOLLGATE_STORAGE__BALLAST_BYTES", "0").env("TOLLGATE_STORAGE__SEGMENT_BYTES", "4194304");
    command.env("TOLLGATE_STORAGE__GROUP_BYTES_MAX", "1048576");
    command.env("TOLLGATE_STORAGE__DIR", format!("\"{}\"", directory.join("data").display()));
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The service manager's end of the socket.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Self(socket)
    }

    /// The next message with this line in it; those before it are of the watchdog.
    fn told(&self, line: &str) -> Vec<String> {
        loop {
            let mut bytes = [0; 4096];
            let count = self.0.recv(&mut bytes).unwrap_or_else(|error| panic!("{line}: {error}"));
            let lines: Vec<String> = String::from_utf8_lossy(&bytes[..count]).lines().map(str::to_owned).collect();
            if lines.iter().any(|told| told == line) {
                return lines;
            }
            assert_eq!(lines, ["WATCHDOG=1"], "in place of {line}");
        }
    }
}

/// A certificate for these names and its key in a directory, with the lines of the configuration that name it.
fn issue(directory: &Path, names: &[&str], key_prefix: &str) -> (PathBuf, String) {
    let names = names.iter().map(|name| String::from(*name)).collect::<Vec<_>>();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let path = directory.join(format!("{key_prefix}certificate.pem"));
    let key_path = directory.join(format!("{key_prefix}key.pem"));
    std::fs::write(&path, pem("CERTIFICATE", certificate.der())).unwrap();
    std::fs::write(&key_path, pem("PRIVATE KEY", &key.serialize_der())).unwrap();
    let lines = format!(
        "{key_prefix}tls_certificate = \"{}\"\n{key_prefix}tls_key = \"{}\"\n",
        path.display(),
        key_path.display()
    );
    (path, lines)
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

#[test]
fn a_service_manager_is_told_of_start_reload_life_and_end() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("notify");
    let manager = Manager::at(&socket);
    let variables = [("NOTIFY_SOCKET", socket.to_str().unwrap()), ("WATCHDOG_USEC", "600000")];
    let service = Service::start(directory, "", &variables);
    let ready = manager.told("READY=1");
    let status = format!("STATUS=serving merchants at {}, operators at ", service.address("listen"));
    assert!(ready.iter().any(|line| line.starts_with(&status)), "{ready:?}");
    for _ in 0..3 {
        manager.told("WATCHDOG=1");
    }
    for _ in 0..2 {
        service.signal(Signal::HUP);
        let reloading = manager.told("RELOADING=1");
        let since = reloading.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
        assert!(since.parse::<u64>().unwrap() > 0, "{reloading:?}");
        manager.told("READY=1");
    }
    // Also of one that came to nothing: the old configuration is in force.
    std::fs::write(service.directory.path().join("config.toml"), "mode = \"wrong\"").unwrap();
    service.signal(Signal::HUP);
    manager.told("RELOADING=1");
    manager.told("READY=1");
    service.signal(Signal::TERM);
    manager.told("STOPPING=1");
    service.stop();
}

/// A connection that was let in: who comes while the process asks itself is refused.
fn hold(address: &str) -> std::net::TcpStream {
    loop {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        if std::io::Read::read(&mut stream, &mut [0; 1]).is_err() {
            return stream;
        }
    }
}

#[test]
fn a_process_without_room_for_its_own_question_is_said_to_be_alive() {
    for is_over_tls in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let (_, tls) = issue(directory.path(), &["localhost"], "admin_");
        let lines = format!("[server]\nconnections_max = 1\n{}", if is_over_tls { &tls } else { "" });
        let socket = directory.path().join("notify");
        let manager = Manager::at(&socket);
        let variables = [("NOTIFY_SOCKET", socket.to_str().unwrap()), ("WATCHDOG_USEC", "600000")];
        let service = Service::start(directory, &lines, &variables);
        manager.told("READY=1");
        // Whoever kills it because of that kills its payments.
        let held = hold(service.address("admin_listen"));
        for _ in 0..4 {
            manager.told("WATCHDOG=1");
        }
        drop(held);
        service.stop();
    }
}

#[test]
fn a_healthcheck_says_by_its_exit_code_whether_requests_are_taken() {
    let service = Service::start(tempfile::tempdir().unwrap(), "", &[]);
    let url = format!("http://{}", service.address("listen"));
    let ready = service.command(&["healthcheck", "--url", &url]);
    assert_eq!((ready.status.code(), ready.stdout.as_slice()), (Some(0), &b"ready\n"[..]), "{}", said(&ready));
    let alive = service.command(&["healthcheck", "--alive", "--url", &url]);
    assert_eq!((alive.status.code(), alive.stdout.as_slice()), (Some(0), &b"alive\n"[..]), "{}", said(&alive));
    let directory = service.stop();
    let gone = program(directory.path(), &["healthcheck", "--url", &url]).output().unwrap();
    assert_eq!(gone.status.code(), Some(1), "{}", said(&gone));
    assert!(said(&gone).contains("nothing answers at"), "{}", said(&gone));
}

#[test]
fn commands_reach_listeners_that_speak_tls() {
    let directory = tempfile::tempdir().unwrap();
    let (_, merchants) = issue(directory.path(), &["pay.example.com"], "");
    let (authority, operator) = issue(directory.path(), &["localhost"], "admin_");
    let config = format!("[server]\n{merchants}{operator}");
    std::fs::write(directory.path().join("config.toml"), &config).unwrap();
    let checked = program(directory.path(), &["check-config"]).output().unwrap();
    assert_eq!(checked.status.code(), Some(0), "{}", said(&checked));
    for line in
        ["# server.tls_certificate: for pay.example.com, valid until", "# server.admin_tls_certificate: for localhost"]
    {
        assert!(said(&checked).lines().any(|said| said.starts_with(line)), "{}", said(&checked));
    }

    let socket = directory.path().join("notify");
    let manager = Manager::at(&socket);
    let variables = [("NOTIFY_SOCKET", socket.to_str().unwrap()), ("WATCHDOG_USEC", "600000")];
    let service = Service::start(directory, &config, &variables);
    manager.told("READY=1");
    manager.told("WATCHDOG=1");
    // The certificate is for another name than the address that it is asked at, and no secret is sent.
    let url = format!("https://{}", service.address("listen"));
    let ready = service.command(&["healthcheck", "--url", &url]);
    assert_eq!(ready.status.code(), Some(0), "{}", said(&ready));
    let port = service.address("admin_listen").rsplit(':').next().unwrap();
    let admin_url = format!("https://localhost:{port}");
    let create = ["merchant", "create", "shop", "--tier", "starter", "--admin-url", &admin_url];
    let refused = service.command(&create);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(
        said(&refused).contains("nobody whom this machine trusts") && said(&refused).contains("--ca-file"),
        "{}",
        said(&refused)
    );
    let trusting = [&create[..], &["--ca-file", authority.to_str().unwrap()]].concat();
    let created = service.command(&trusting);
    assert_eq!(created.status.code(), Some(0), "{}", said(&created));
    let directory = service.stop();

    // A key that does not fit is said before anything is started.
    std::fs::copy(directory.path().join("admin_key.pem"), directory.path().join("key.pem")).unwrap();
    for command in [&["check-config"][..], &["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]] {
        let refused = program(directory.path(), command).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
        assert!(said(&refused).contains("is not the key of"), "{}", said(&refused));
    }
}

/// As `serve --config <(decrypt config.toml)` has it.
#[test]
fn a_configuration_that_comes_by_a_pipe_is_read_once_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/stdin", directory.path().join("config.toml")).unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"[channels.alipay]\nenabled = false\n").unwrap();
    drop(writer);
    let service = Service::start_reading(directory, reader.into(), &[]);
    let admin_url = format!("http://{}", service.address("admin_listen"));
    let is_off = || {
        let channels = service.command(&["channel", "list", "--json", "--admin-url", &admin_url]);
        let channels: Value = serde_json::from_slice(&channels.stdout).unwrap();
        let items = channels["items"].as_array().unwrap();
        items.iter().find(|channel| channel["name"] == "alipay").unwrap()["enabled"] == false
    };
    assert!(is_off());
    let reload = service.command(&["reload", "--admin-url", &admin_url]);
    assert_ne!(reload.status.code(), Some(0), "{}", said(&reload));
    assert!(said(&reload).contains("came by a pipe"), "{}", said(&reload));
    assert!(is_off());
    service.stop();
}

/// Whoever misses a renewal has clients that complain, not a gateway that does not come back.
#[test]
fn the_unit_starts_a_gateway_whose_certificate_has_expired() {
    let directory = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([String::from("localhost")]).unwrap();
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("certificate.pem"), pem("CERTIFICATE", certificate.der())).unwrap();
    std::fs::write(at("key.pem"), pem("PRIVATE KEY", &key.serialize_der())).unwrap();
    let config = format!("[server]\ntls_certificate = {:?}\ntls_key = {:?}\n", at("certificate.pem"), at("key.pem"));
    std::fs::write(at("config.toml"), &config).unwrap();
    let unit = std::fs::read_to_string("deploy/systemd/tollgate.service").unwrap();
    let before: Vec<&str> = unit.lines().filter_map(|line| line.strip_prefix("ExecStartPre=")).collect();
    for command in before {
        let arguments: Vec<&str> = command.split_whitespace().skip(1).take_while(|word| *word != "--config").collect();
        let output = program(directory.path(), &arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{command}: {}", said(&output));
    }
    let service = Service::start(directory, &config, &[]);
    let url = format!("https://{}", service.address("listen"));
    assert_eq!(service.command(&["healthcheck", "--url", &url]).status.code(), Some(0));
    service.stop();
}
