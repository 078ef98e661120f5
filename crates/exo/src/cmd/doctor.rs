//! `exo doctor`: looks for what could keep the node from working, and says what to do.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

use exo_federation::{Config, ErrorCode};
use serde::Serialize;

use super::Context;
use crate::api::dto::Document;
use crate::api::dto::node::StatusDoc;
use crate::api::dto::peer::{PeerStateDoc, PeersDoc, PingDoc};
use crate::client::{Client, segment};
use crate::escape::visible;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Output, Style};

/// Arguments of `exo doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// What was looked at and what was found.
#[derive(Debug, Serialize)]
struct Check {
    check: String,
    state: State,
    detail: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    remedy: String,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warn,
    Fail,
}

/// All checks, `exo.doctor/1`.
#[derive(Debug, Serialize)]
struct DoctorDoc {
    schema: &'static str,
    ok: bool,
    checks: Vec<Check>,
}

/// Runs every check; exits with 1 if one fails.
pub(crate) fn run(context: &Context, _args: &Args) -> Outcome {
    let checks = all(context);
    let ok = checks.iter().all(|check| check.state != State::Fail);
    let output = &context.output;
    if output.json {
        output.json(&DoctorDoc { schema: "exo.doctor/1", ok, checks })?;
    } else {
        for check in &checks {
            show(output, check)?;
        }
        let bad = checks.iter().filter(|check| check.state != State::Ok).count();
        let text = if bad == 0 { "All in order.".into() } else { format!("{bad} to look at.") };
        output.line(&text)?;
    }
    Ok(if ok { Exit::Ok } else { Exit::Failure })
}

fn all(context: &Context) -> Vec<Check> {
    let directory = context.data_dir.path();
    let mut checks = vec![clock(directory)];
    checks.extend(buffers());
    let config = match Config::load(directory) {
        Ok(config) => {
            checks.push(ok(
                "configuration",
                &format!("{} is valid", Config::path(directory).display()),
            ));
            config
        }
        Err(error) => {
            checks.push(failed("configuration", &Failure::from(error)));
            return checks;
        }
    };
    checks.push(permissions(&context.data_dir.keys()));
    checks.push(match context.data_dir.token() {
        Ok(_) => ok("API token", "it is there and private"),
        Err(failure) => failed("API token", &failure),
    });
    checks.push(api_address(&config));
    match context.client().and_then(|client| {
        let status = client.get::<Document<StatusDoc>>("/v1/status")?;
        Ok((client, status.body))
    }) {
        Ok((client, status)) => {
            checks.push(ok("node", &format!("it runs, API at {}", client.base())));
            checks.extend(members(&client, &status));
        }
        Err(failure) => {
            checks.push(Check { state: State::Warn, ..failed("node", &failure) });
            checks.extend(ports(&config));
        }
    }
    checks
}

/// The clock must be past this program's own time, and not behind what it wrote itself.
fn clock(directory: &Path) -> Check {
    const NAME: &str = "clock";
    let now = SystemTime::now();
    let released = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(RELEASED_UNIX_SECONDS);
    if now < released {
        return fail(
            NAME,
            "it stands before this version was made",
            "Set the clock, for example with NTP: tickets and tokens carry times.",
        );
    }
    let newest = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.metadata().ok()?.modified().ok())
        .max();
    match newest.map(|written| written.duration_since(now)) {
        Some(Ok(ahead)) if ahead.as_secs() > 5 => fail(
            NAME,
            &format!("the node wrote a file {} s in the future", ahead.as_secs()),
            "The clock was set back: set it right before the node runs.",
        ),
        _ => ok(NAME, "it does not run backwards"),
    }
}

/// Receive and send buffers that the kernel allows for UDP.
fn buffers() -> Vec<Check> {
    let check = |name: &str| {
        let path = format!("/proc/sys/net/core/{name}");
        let bytes: u64 = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
        Some(if bytes >= UDP_BUFFER_BYTES {
            ok(&format!("UDP buffers ({name})"), &format!("{bytes} bytes"))
        } else {
            Check {
                state: State::Warn,
                ..fail(
                    &format!("UDP buffers ({name})"),
                    &format!("{bytes} bytes; large answers may be slow"),
                    &format!("`sysctl -w net.core.{name}={UDP_BUFFER_BYTES}`"),
                )
            }
        })
    };
    ["rmem_max", "wmem_max"].into_iter().filter_map(check).collect()
}

/// Keys must be readable by their owner alone.
fn permissions(keys: &Path) -> Check {
    const NAME: &str = "key files";
    let open = |path: &Path, allowed: u32| match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_symlink() => {
            Some(format!("{} is a link", path.display()))
        }
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & 0o777;
            (mode & !allowed != 0).then(|| format!("{} has mode {mode:04o}", path.display()))
        }
        Err(error) => Some(format!("{}: {error}", path.display())),
    };
    let mut found: Vec<String> = open(keys, 0o700).into_iter().collect();
    let entries = std::fs::read_dir(keys).into_iter().flatten().flatten();
    found.extend(entries.filter_map(|entry| open(&entry.path(), 0o600)));
    if found.is_empty() {
        ok(NAME, "only their owner can read them")
    } else {
        fail(NAME, &found.join("; "), ErrorCode::KeyPermissions.remedy())
    }
}

fn api_address(config: &Config) -> Check {
    const NAME: &str = "API address";
    if config.api_listen.ip().is_loopback() {
        ok(NAME, &format!("{} is on this machine alone", config.api_listen))
    } else {
        Check {
            state: State::Warn,
            ..fail(
                NAME,
                &format!("{} can be reached by other machines", config.api_listen),
                "Set api_listen to 127.0.0.1: the token travels unencrypted.",
            )
        }
    }
}

/// While no node runs, its addresses must be free.
fn ports(config: &Config) -> Vec<Check> {
    let check = |name: &str, address: SocketAddr, bound: std::io::Result<()>| match bound {
        Ok(()) => ok(name, &format!("{address} is free")),
        Err(error) => fail(name, &format!("{address}: {error}"), ErrorCode::AddressInUse.remedy()),
    };
    let (mesh, api) = (config.mesh_listen, config.api_listen);
    vec![
        check("peer port (UDP)", mesh, UdpSocket::bind(mesh).map(drop)),
        check("API port (TCP)", api, TcpListener::bind(api).map(drop)),
    ]
}

/// Every member is asked for a sign of life by the node.
fn members(client: &Client, status: &StatusDoc) -> Vec<Check> {
    if status.federation.is_none() {
        return vec![ok("federation", "none yet")];
    }
    let peers: Document<PeersDoc> = match client.get("/v1/peers") {
        Ok(peers) => peers,
        Err(failure) => return vec![failed("members", &failure)],
    };
    let members = peers
        .body
        .peers
        .iter()
        .filter(|peer| matches!(peer.state, PeerStateDoc::Active | PeerStateDoc::Unreachable));
    members
        .map(|peer| {
            let name = format!("member {}", peer.name);
            let path = format!("/v1/peers/{}/ping", segment(&peer.peer.to_string()));
            match client.post::<_, Document<PingDoc>>(&path, &serde_json::json!({})) {
                Ok(ping) => ok(&name, &format!("answers in {:.1} ms", ping.body.elapsed_ms)),
                Err(failure) => failed(&name, &failure),
            }
        })
        .collect()
}

fn ok(check: &str, detail: &str) -> Check {
    Check { check: check.into(), state: State::Ok, detail: detail.into(), remedy: String::new() }
}

fn fail(check: &str, detail: &str, remedy: &str) -> Check {
    Check { check: check.into(), state: State::Fail, detail: detail.into(), remedy: remedy.into() }
}

fn failed(check: &str, failure: &Failure) -> Check {
    fail(check, &failure.message, &failure.remedy)
}

fn show(output: &Output, check: &Check) -> Result<(), Failure> {
    let (mark, style) = match check.state {
        State::Ok => ("ok  ", Style::Good),
        State::Warn => ("warn", Style::Warn),
        State::Fail => ("FAIL", Style::Bad),
    };
    let mark = output.style(mark, style);
    output.line(&format!("{mark}  {}: {}", visible(&check.check), visible(&check.detail)))?;
    if check.remedy.is_empty() {
        return Ok(());
    }
    output.line(&format!("      {}", visible(&check.remedy)))
}

/// A time that no right clock can be before: 1 November 2025.
const RELEASED_UNIX_SECONDS: u64 = 1_761_955_200;
/// UDP buffers that a burst of large answers needs, bytes.
const UDP_BUFFER_BYTES: u64 = 2 * 1024 * 1024;
