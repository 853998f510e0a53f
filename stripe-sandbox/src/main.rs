//! `stripe-sandbox`: a sandbox started by hand.
//!
//! In: `--listen ADDRESS`, `--key sk_test_…`, `--webhook URL SECRET`, `--connect-webhook URL SECRET`, `--at SECOND`,
//! `--seed N`, or `--parameters`, or `--verify SECRET HEADER SECOND` with a body on standard input. Out: the address on
//! standard output, then a server until Ctrl-C; with `--parameters` a JSON object of all routes and the names of their
//! parameters; with `--verify` nothing, and 1 if the header does not sign the body.
//! Always holds: an argument that is not known ends it with 2.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::ExitCode;
use stripe_sandbox::{Config, Sandbox, WebhookEndpoint, routes, signature};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()).await {
        Ok(good) => ExitCode::from(u8::from(!good)),
        Err(message) => {
            let _ = writeln!(std::io::stderr(), "stripe-sandbox: {message}");
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: Vec<String>) -> Result<bool, String> {
    if let [word, secret, header, second] = arguments.as_slice()
        && word == "--verify"
    {
        let second = second.parse().map_err(|error| format!("--verify: {error}"))?;
        let mut body = Vec::new();
        std::io::stdin().read_to_end(&mut body).map_err(|error| error.to_string())?;
        return Ok(signature::verify(secret, header, &body, second, 300));
    }
    if arguments.iter().any(|argument| argument == "--parameters") {
        return say(&parameters()).map(|()| true);
    }
    let sandbox = Sandbox::start(config(arguments)?).await.map_err(|error| error.to_string())?;
    say(&sandbox.url())?;
    tokio::signal::ctrl_c().await.map_err(|error| error.to_string())?;
    sandbox.shutdown().await;
    Ok(true)
}

fn config(arguments: Vec<String>) -> Result<Config, String> {
    let mut config = Config::default();
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--listen" => {
                config.address = value()?.parse().map_err(|error| format!("--listen: {error}"))?
            }
            "--key" => config.secret_key = value()?,
            "--seed" => {
                config.seed = Some(value()?.parse().map_err(|error| format!("--seed: {error}"))?)
            }
            "--at" => {
                let at = value()?.parse().map_err(|error| format!("--at: {error}"))?;
                config = Config { clock: stripe_sandbox::ClockStart::Fixed(at), ..config };
            }
            "--webhook" | "--connect-webhook" => {
                let connect = argument == "--connect-webhook";
                let (url, secret) = (value()?, value()?);
                config.webhook_endpoints.push(WebhookEndpoint::new(url, secret, connect));
            }
            other => return Err(format!("unknown argument {other}")),
        }
    }
    Ok(config)
}

fn parameters() -> String {
    let mut all: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for route in routes() {
        all.insert(format!("{} {}", route.method, route.path), route.parameters.to_vec());
    }
    serde_json::json!(all).to_string()
}

fn say(line: &str) -> Result<(), String> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| error.to_string())
}
