//! The `tollgate` program: parses its arguments, builds the runtime, runs one command and says how it went.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use tollgate::cli::{self, CommandLine};

/// Requests, committer and index free what another thread has allocated, which the C library's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long the end of the process waits for threads that can't be interrupted, such as lookups of names.
const RUNTIME_STOP_MAX: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let command_line = match CommandLine::from_arguments(std::env::args_os()) {
        Ok(command_line) => command_line,
        Err(exit_code) => return ExitCode::from(exit_code),
    };
    let lossy = |text: OsString| text.to_string_lossy().into_owned();
    let environment = std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return ExitCode::from(cli::report_no_runtime(&error)),
    };
    let exit_code = runtime.block_on(cli::run(command_line, environment));
    runtime.shutdown_timeout(RUNTIME_STOP_MAX);
    ExitCode::from(exit_code)
}
