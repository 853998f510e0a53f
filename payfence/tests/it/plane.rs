//! A control plane of its own, run as `payfence controlplane` on SQLite, and nodes at it.
//!
//! In: REST requests. Out: what it answers; nodes that serve what it says.
//! Always holds: processes end with their test; every wait has a deadline.

use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

use super::client::{Answer, rest};
use super::gateway::{Gateway, Process, can_run};
use super::wait::{DEADLINE, own_address, wait_for};

/// A running control plane with one site, plan and customer.
pub struct Plane {
    pub address: SocketAddr,
    process: Process,
    folder: tempfile::TempDir,
    flags: Vec<String>,
    key: String,
    pub site_id: String,
    pub plan_id: String,
    pub customer_id: String,
}

/// A subscription and its token.
pub struct Subscriber {
    pub subscription_id: String,
    pub token: String,
}

impl Plane {
    /// Starts one with a site in front of `origin`, whose `/paid/*` is paid under this plan; `None` where no node can run, and that is
    /// allowed.
    #[track_caller]
    pub fn start(origin: SocketAddr, plan: Value) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a working folder");
        Self::start_with(own_address(), folder, &[], origin, plan)
    }

    /// The same at an address and in a folder that are known before, with further flags.
    #[track_caller]
    pub fn start_with(
        address: SocketAddr,
        folder: tempfile::TempDir,
        flags: &[String],
        origin: SocketAddr,
        plan: Value,
    ) -> Option<Self> {
        if !can_run() {
            return None;
        }
        let data = folder.path().display().to_string();
        let made = Command::new(env!("CARGO_BIN_EXE_payfence"))
            .args(["controlplane", "--data-dir", &data])
            .args(["init", "--account", "Test", "--email", "test@example.com"])
            .stderr(Stdio::inherit())
            .output()
            .expect("the binary runs");
        assert!(made.status.success(), "{made:?}");
        let key = String::from_utf8(made.stdout).expect("a key").trim().to_owned();
        let flags = flags.to_vec();
        let process = serve(&folder, address, &flags);
        let (site_id, plan_id, customer_id) = Default::default();
        let mut plane =
            Self { address, process, folder, flags, key, site_id, plan_id, customer_id };
        plane.wait_ready();
        plane.fill(origin, plan);
        Some(plane)
    }

    fn fill(&mut self, origin: SocketAddr, plan: Value) {
        let site =
            json!({ "slug": "shop", "origin": format!("http://{origin}"), "hosts": ["shop.test"] });
        self.site_id = id_of(&self.post("/v1/sites", site));
        let within = format!("/v1/sites/{}", self.site_id);
        self.post(&format!("{within}/resources"), json!({ "pattern": "/paid/*" }));
        self.plan_id = id_of(&self.post(&format!("{within}/plans"), plan));
        self.customer_id = id_of(&self.post("/v1/customers", json!({ "reference": "acme" })));
    }

    #[track_caller]
    fn wait_ready(&mut self) {
        wait_for("the control plane", || {
            self.process.expect_running();
            std::net::TcpStream::connect(self.address).ok()
        });
    }

    /// Ends it as a crash does.
    pub fn crash(&mut self) {
        self.process.crash();
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Starts it again with its database.
    #[track_caller]
    pub fn restart(&mut self) {
        self.process = serve(&self.folder, self.address, &self.flags);
        self.wait_ready();
    }

    /// Sends a request with a body; whatever is answered.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, body: &str) -> Answer {
        rest(self.address, &self.key, method, path, body)
    }

    /// Makes something.
    #[track_caller]
    pub fn post(&self, path: &str, body: Value) -> Value {
        let answer = self.request("POST", path, &body.to_string());
        assert!(matches!(answer.status, 200 | 201), "{path}: {}", answer.text());
        answer.json()
    }

    /// Changes something.
    #[track_caller]
    pub fn patch(&self, path: &str, body: Value) -> Value {
        let answer = self.request("PATCH", path, &body.to_string());
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// Ends something.
    #[track_caller]
    pub fn delete(&self, path: &str) {
        let answer = self.request("DELETE", path, "");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }

    /// Shows something.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let answer = self.request("GET", path, "");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// The folder that commands are run in.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// A file in the folder that commands are run in.
    #[track_caller]
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect("a file");
    }

    /// Runs `payfence` as an administrator of this control plane does, in its folder; what it ended with.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_payfence"));
        command.args(arguments).current_dir(self.folder.path()).env_clear();
        let url = format!("http://{}", self.address);
        command.env("PAYFENCE_CONTROL_URL", url).env("PAYFENCE_ADMIN_KEY", &self.key);
        command.output().expect("the binary runs")
    }

    /// Applies this text as `policy.toml`.
    #[track_caller]
    pub fn apply(&self, text: &str, arguments: &[&str]) -> Output {
        self.write("policy.toml", text);
        self.run(&[&["apply", "policy.toml"], arguments].concat())
    }

    /// Changes or makes one row behind the back of whoever serves.
    #[track_caller]
    pub fn change_row(&self, sql: &str) {
        let file = self.folder.path().join("controlplane.db");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let changed = runtime.expect("a runtime").block_on(async {
            let options = SqliteConnectOptions::new().filename(file).busy_timeout(DEADLINE);
            let mut connection = options.connect().await.expect("the database");
            let changed = sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await;
            changed.unwrap_or_else(|error| panic!("{sql}: {error}")).rows_affected()
        });
        assert_eq!(changed, 1, "one row is changed by {sql}");
    }

    /// A new subscription with a token.
    #[track_caller]
    pub fn subscribe(&self) -> Subscriber {
        let subscription = json!({
            "site_id": self.site_id, "plan_id": self.plan_id, "customer_id": self.customer_id,
        });
        let subscription_id = id_of(&self.post("/v1/subscriptions", subscription));
        let (_, token) = self.issue(&subscription_id);
        Subscriber { subscription_id, token }
    }

    /// A new token of a subscription: its id and its text.
    #[track_caller]
    pub fn issue(&self, subscription_id: &str) -> (String, String) {
        let made = self.post("/v1/tokens", json!({ "subscription_id": subscription_id }));
        (id_of(&made), made["secret"].as_str().expect("a secret").to_owned())
    }

    /// A node of its own name at this control plane, which serves.
    #[track_caller]
    pub fn node(&self, name: &str) -> Gateway {
        self.node_over(self.address, name)
    }

    /// The same, which reaches it at another address.
    #[track_caller]
    pub fn node_over(&self, way: SocketAddr, name: &str) -> Gateway {
        let mut gateway = self.launch_node_over(way, name, &["--allow-private-origins"]);
        gateway.wait_ready();
        // What it began with may be a little older than what was last changed.
        self.wait_node(name);
        gateway
    }

    /// Waits until a node has all that was changed.
    #[track_caller]
    pub fn wait_node(&self, name: &str) {
        wait_for("a node with all that was changed", || {
            let nodes = self.get("/v1/nodes");
            let node = nodes["data"].as_array()?.iter().find(|node| node["name"] == name)?;
            (node["lag"] == 0).then_some(())
        });
    }

    /// A node of its own name, which may not serve yet.
    #[track_caller]
    pub fn launch_node(&self, name: &str) -> Gateway {
        self.launch_node_with(name, &["--allow-private-origins"])
    }

    /// The same with these flags.
    #[track_caller]
    pub fn launch_node_with(&self, name: &str, flags: &[&str]) -> Gateway {
        self.launch_node_over(self.address, name, flags)
    }

    fn launch_node_over(&self, way: SocketAddr, name: &str, flags: &[&str]) -> Gateway {
        let id = id_of(&self.post("/v1/nodes", json!({ "name": name })));
        let made = self.post(&format!("/v1/nodes/{id}/tokens"), json!({}));
        let token = made["secret"].as_str().expect("a secret");
        let url = format!("http://{way}");
        Gateway::launch_node(&url, token, &[flags, &["--node-name", name]].concat())
    }
}

fn serve(folder: &tempfile::TempDir, address: SocketAddr, flags: &[String]) -> Process {
    let (data, address) = (folder.path().display().to_string(), address.to_string());
    let mut arguments =
        vec!["controlplane", "--data-dir", &data, "--listen", &address, "--allow-private-origins"];
    arguments.extend(flags.iter().map(String::as_str));
    Process::start(&arguments, &[])
}

#[track_caller]
fn id_of(made: &Value) -> String {
    made["id"].as_str().unwrap_or_else(|| panic!("no id: {made}")).to_owned()
}
