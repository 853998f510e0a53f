//! A quota is exact over nodes while parts of the whole are killed, stopped or cut off under traffic.
//!
//! In: clients that move from node to node until all of them refuse; what is done to nodes, control plane and the way between them
//! meanwhile. Out: what clients saw, what came to the origin, what journals and ledger say.
//! Always holds: never more than the limit comes to the origin; no node says that all is used before it is; in the end the ledger and
//! the journals have the limit, to the unit.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;

use super::client::{Answer, Client, get};
use super::gateway::Gateway;
use super::journal::{charged, rows};
use super::origin::{Origin, Step, reply};
use super::plane::{Plane, Subscriber};
use super::wait::{Stop, time_left, wait_for, wait_within};
use super::way::{Silence, Way};

const LIMIT: u64 = 10_000;
const NODES: usize = 3;
const CLIENTS: u64 = 6;
/// Requests on one connection, before the next node has its turn.
const TURN: usize = 40;
/// Refusals in a row by which a node shows that it is done.
const REFUSALS: u64 = 100;
/// How long a control plane is away.
const OUTAGE: Duration = Duration::from_secs(10);
/// Longer than anything takes here: after an outage of both, a node may wait ten seconds before it asks again.
const PATIENCE: Duration = Duration::from_secs(120);
const FLAGS: [[&str; 3]; NODES] = [
    ["--allow-private-origins", "--node-name", "n1"],
    ["--allow-private-origins", "--node-name", "n2"],
    ["--allow-private-origins", "--node-name", "n3"],
];

/// What clients saw of a node.
struct Seen {
    address: SocketAddr,
    /// Times that it did not know whether units were left.
    unknown: AtomicU64,
    /// Times in a row that it said that all is used.
    refused: AtomicU64,
}

/// Clients that ask node after node.
struct Crowd {
    nodes: Vec<Seen>,
    request: String,
    admitted: AtomicU64,
    /// Requests without an answer: they may have been admitted.
    cut: AtomicU64,
    is_over: AtomicBool,
}

impl Crowd {
    fn new(nodes: &[Gateway], token: &str) -> Self {
        let seen = |node: &Gateway| Seen {
            address: node.address,
            unknown: AtomicU64::default(),
            refused: AtomicU64::default(),
        };
        Self {
            nodes: nodes.iter().map(seen).collect(),
            request: paid("/paid/x", token),
            admitted: AtomicU64::default(),
            cut: AtomicU64::default(),
            is_over: AtomicBool::default(),
        }
    }

    /// Asks until `meanwhile` is done and every node refuses.
    fn run(&self, meanwhile: impl FnOnce()) {
        std::thread::scope(|scope| {
            for client in 0..CLIENTS as usize {
                scope.spawn(move || {
                    // The others stop, too, where this one fails.
                    let _stop = Stop(&self.is_over);
                    let turns = (client..).take_while(|_| !self.is_over.load(Ordering::Relaxed));
                    turns.for_each(|turn| self.visit(&self.nodes[turn % self.nodes.len()]));
                });
            }
            let _stop = Stop(&self.is_over);
            meanwhile();
            self.wait("refusals of every node", || {
                self.nodes.iter().all(|node| node.refused.load(Ordering::Relaxed) >= REFUSALS)
            });
        });
    }

    fn visit(&self, node: &Seen) {
        let Some(mut client) = Client::try_connect(node.address) else {
            std::thread::yield_now();
            return;
        };
        for _ in 0..TURN {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let Some(answer) = client.try_ask(&self.request) else {
                self.cut.fetch_add(1, Ordering::Relaxed);
                return;
            };
            self.note(node, &answer);
            // It waited for units in vain, which takes a second: others may have some.
            if answer.status == 503 {
                return;
            }
        }
    }

    fn note(&self, node: &Seen, answer: &Answer) {
        match (answer.status, answer.reason().as_str()) {
            (200, "") => {
                self.admitted.fetch_add(1, Ordering::Relaxed);
                node.refused.store(0, Ordering::Relaxed);
            }
            // A node that waits for units of others in vain says so, never that all is used.
            (503, "ledger_unreachable") => {
                node.unknown.fetch_add(1, Ordering::Relaxed);
                node.refused.store(0, Ordering::Relaxed);
            }
            (429, "quota_exhausted") => {
                // What was admitted and has not come to be counted here is with the clients, one each.
                let used = self.admitted() + self.cut.load(Ordering::Relaxed) + CLIENTS;
                assert!(used >= LIMIT, "refused after {used} at most: {answer:?}");
                node.refused.fetch_add(1, Ordering::Relaxed);
            }
            other => panic!("{other:?}: {answer:?}"),
        }
    }

    fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed)
    }

    #[track_caller]
    fn wait(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let figures = || {
            let each = |node: &Seen| {
                (node.unknown.load(Ordering::Relaxed), node.refused.load(Ordering::Relaxed))
            };
            let nodes: Vec<_> = self.nodes.iter().map(each).collect();
            format!("{} admitted, (unknown, refused) {nodes:?}", self.admitted())
        };
        let is_time_left = time_left(PATIENCE);
        wait_within(PATIENCE + PATIENCE, what, || {
            assert!(is_time_left(), "waited in vain for {what}; {}", figures());
            let has_failed = self.is_over.load(Ordering::Relaxed);
            assert!(!has_failed, "a client failed before {what}; {}", figures());
            condition().then_some(())
        });
    }

    #[track_caller]
    fn wait_admitted(&self, count: u64) {
        self.wait(&format!("{count} admitted"), || self.admitted() >= count);
    }

    /// Waits until these nodes say anew that they do not know.
    #[track_caller]
    fn wait_unknown(&self, nodes: std::ops::Range<usize>) {
        let count = |node: &Seen| node.unknown.load(Ordering::Relaxed);
        let before: Vec<_> = self.nodes.iter().map(count).collect();
        self.wait("nodes that have nothing left and cannot ask", || {
            nodes.clone().all(|number| count(&self.nodes[number]) > before[number])
        });
    }
}

fn paid(path: &str, token: &str) -> String {
    get(path, &[("Authorization", &format!("Bearer {token}"))])
}

/// Three nodes of a control plane, the last of them by a way of its own, in front of an origin that holds what it is told to.
struct Scene {
    origin: Origin,
    plane: Plane,
    subscriber: Subscriber,
    way: Way,
    nodes: Vec<Gateway>,
}

impl Scene {
    fn open() -> Option<Self> {
        let origin = Origin::start(|request| {
            let mut steps = reply("200 OK", &[], "ok");
            if request.target == "/paid/held" {
                steps.insert(0, Step::Await("held"));
            }
            steps
        });
        let plan = json!({ "reference": "exact", "quota": { "requests": LIMIT, "per": "year" } });
        let plane = Plane::start(origin.address, plan)?;
        let subscriber = plane.subscribe();
        let way = Way::to(plane.address);
        let ways = [plane.address, plane.address, way.address];
        let nodes = ways.iter().zip(FLAGS).map(|(way, flags)| plane.node_over(*way, flags[2]));
        let nodes = nodes.collect();
        Some(Self { origin, plane, subscriber, way, nodes })
    }

    fn crowd(&self) -> Crowd {
        Crowd::new(&self.nodes, &self.subscriber.token)
    }

    /// Paid requests that came to the origin.
    fn forwarded(&self) -> u64 {
        let requests = self.origin.requests();
        requests.iter().filter(|request| request.target.starts_with("/paid/")).count() as u64
    }

    /// Requests that are on their way to the origin and back for as long as nobody releases them.
    #[track_caller]
    fn hold(&self, node: usize, count: usize) -> Vec<Client> {
        let request = paid("/paid/held", &self.subscriber.token);
        let send = |_| {
            let mut client = self.nodes[node].connect();
            client.send(&request);
            client
        };
        let clients = (0..count).map(send).collect();
        wait_for("requests that are held", || {
            let requests = self.origin.requests();
            let held = requests.iter().filter(|request| request.target == "/paid/held");
            (held.count() == count).then_some(())
        });
        clients
    }

    /// What has to be true once every node has refused: of the limit nothing was given twice, and nothing was lost.
    #[track_caller]
    fn check(&self, crowd: &Crowd) {
        let (admitted, cut) = (crowd.admitted(), crowd.cut.load(Ordering::Relaxed));
        let forwarded = self.forwarded();
        let known = format!("{admitted} admitted, {cut} cut off, {forwarded} at the origin");
        assert!(forwarded <= LIMIT && admitted <= forwarded, "{known}");
        assert!(forwarded <= admitted + cut && admitted + cut >= LIMIT, "{known}");
        let entitlement = format!("/v1/entitlements/{}", self.subscriber.subscription_id);
        wait_for("the use of all nodes in one figure", || {
            let shown = self.plane.get(&entitlement);
            assert!(shown["used"].as_u64()? <= LIMIT, "{known}: {shown}");
            (shown["used"] == LIMIT && shown["remaining"] == 0).then_some(())
        });
        // Every unit has its row, those that were under way when their node was killed too.
        wait_for("a row for every unit", || {
            let rows: Vec<_> = self.nodes.iter().flat_map(rows).collect();
            let charged = charged(&rows);
            assert!(charged <= LIMIT, "{known}: {charged} in the journals");
            let unfinished = rows.iter().filter(|row| row["status"].is_null()).count() as u64;
            assert!(unfinished <= cut, "{known}: {unfinished} rows without an end");
            let nowhere = charged.saturating_sub(forwarded);
            assert!(nowhere <= unfinished, "{known}: {nowhere} of {unfinished} were lost");
            (charged == LIMIT).then_some(())
        });
        let request = paid("/paid/x", &self.subscriber.token);
        for node in &self.nodes {
            assert_eq!(node.ask(&request).reason(), "quota_exhausted");
        }
        assert_eq!(self.forwarded(), forwarded);
    }
}

#[test]
fn a_node_killed_with_requests_under_way_gives_nothing_twice_and_loses_nothing() {
    const HELD: usize = 5;
    let Some(mut scene) = Scene::open() else { return };
    let crowd = scene.crowd();
    crowd.run(|| {
        crowd.wait_admitted(3_000);
        let held = scene.hold(0, HELD);
        crowd.cut.fetch_add(HELD as u64, Ordering::Relaxed);
        scene.nodes[0].crash();
        for mut client in held {
            assert!(client.try_answer().is_none(), "an answer of a node that was killed");
        }
        scene.origin.release("held");
        // The other two go on without what it holds.
        crowd.wait_admitted(4_500);
        scene.nodes[0].restart(&FLAGS[0]);
    });
    scene.check(&crowd);
}

/// Under traffic: what is leased is served, then nobody knows; a node that is killed meanwhile starts without a control plane.
#[test]
fn a_control_plane_killed_for_ten_seconds_costs_no_unit() {
    let Some(mut scene) = Scene::open() else { return };
    let crowd = scene.crowd();
    crowd.run(|| {
        crowd.wait_admitted(2_000);
        let is_time_left = time_left(OUTAGE);
        scene.plane.crash();
        crowd.wait_unknown(0..NODES);
        scene.nodes[1].crash_and_restart(&FLAGS[1]);
        assert_eq!(scene.nodes[1].ask(get("/free", &[])).status, 200);
        crowd.wait("the end of the outage", || !is_time_left());
        crowd.wait_unknown(0..NODES);
        assert!(crowd.admitted() < LIMIT, "more than what was leased");
        scene.plane.restart();
    });
    scene.check(&crowd);
}

/// It takes connections and answers nothing; then it answers what nobody waits for any more.
#[test]
fn a_control_plane_stopped_for_ten_seconds_costs_no_unit() {
    let Some(scene) = Scene::open() else { return };
    let crowd = scene.crowd();
    crowd.run(|| {
        crowd.wait_admitted(2_000);
        let is_time_left = time_left(OUTAGE);
        scene.plane.signal("STOP");
        crowd.wait_unknown(0..NODES);
        crowd.wait("the end of the outage", || !is_time_left());
        crowd.wait_unknown(0..NODES);
        assert!(crowd.admitted() < LIMIT, "more than what was leased");
        scene.plane.signal("CONT");
    });
    scene.check(&crowd);
}

#[test]
fn a_node_cut_off_gives_nothing_twice_and_loses_nothing() {
    cut_off(Silence::All);
}

/// Of what it asks for the ledger knows, and it does not.
#[test]
fn a_node_whose_answers_are_lost_gives_nothing_twice_and_loses_nothing() {
    cut_off(Silence::Answers);
}

#[track_caller]
fn cut_off(silence: Silence) {
    let Some(scene) = Scene::open() else { return };
    let crowd = scene.crowd();
    let last = &scene.nodes[NODES - 1];
    crowd.run(|| {
        crowd.wait_admitted(2_000);
        scene.way.set(silence);
        last.wait_metric("payfence_control_connected", &[], 0.0);
        // In the end all have used what they have, and none says that this is all there is: the one holds what the others cannot know of.
        crowd.wait_unknown(0..NODES);
        scene.way.set(Silence::None);
    });
    scene.check(&crowd);
}
