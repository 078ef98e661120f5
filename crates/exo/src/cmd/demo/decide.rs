//! What the demo's nodes decide together: with all of them, with one that lies, with one that is killed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use exo_federation::ErrorCode;
use exo_types::PeerId;
use serde_json::{Value, json};

use super::fleet::{self, Node, Processes};
use super::report::Step;
use super::steps::missing;
use crate::api::dto::Document;
use crate::api::dto::decision::{CommitDoc, ConsensusDoc, ProposeRequest, VerifiedDoc};
use crate::api::dto::node::StatusDoc;
use crate::exit::Failure;
use crate::span;

/// Voters of the demo's federation: with seven, one may lie while another is gone.
pub(super) fn voters(nodes: usize) -> usize {
    if nodes >= VOTERS_FOR_TWO_FAULTS { VOTERS_FOR_TWO_FAULTS } else { VOTERS_FOR_ONE_FAULT }
}

/// Whether this program can run a node that lies.
pub(super) const LIARS: bool = cfg!(feature = "liar");

/// Commits a statement and checks its proof in a process that knows nothing but the policy.
pub(super) fn commit(root: &Path, nodes: &[Node]) -> Result<Step<()>, Failure> {
    let (proposer, consensus) = (&nodes[0], consensus(&nodes[0])?);
    let commit = propose(proposer, STATEMENT)?;
    let mut wrong = alike(nodes, &commit)?;
    let proof = Proof::of(root, proposer, &commit, "commit")?;
    let checked = proof.check()?;
    wrong.extend(proof.wrong(&commit, &checked, consensus.quorum));
    let took = commit.elapsed_ms.unwrap_or(0.0);
    let verified = span::millis(checked.took);
    let mut lines = vec![
        format!(
            "{} of {} voters decide, {} may fail; {} only follows",
            consensus.quorum,
            consensus.voters.len(),
            consensus.faults_tolerated,
            followers(nodes, &consensus)
        ),
        format!("commit #{} of {} entries: \"{STATEMENT}\"", commit.index, checked.doc.size),
        format!(
            "the proof: {} bytes, cosigned by {} with ML-DSA-44, in {}",
            proof.bytes,
            signers(nodes, &checked.doc).join(", "),
            proof.path.display()
        ),
    ];
    lines.push(format!(
        "`exo verify`, a process without node, configuration or network: it holds ({verified:.1} ms)"
    ));
    Ok(Step {
        wrong,
        detail: json!({
            "by": proposer.name, "index": commit.index, "size": checked.doc.size,
            "voters": consensus.voters.len(), "quorum": consensus.quorum,
            "faults_tolerated": consensus.faults_tolerated, "commit_ms": took,
            "proof": proof.path, "policy": proof.policy, "proof_bytes": proof.bytes,
            "signers": signers(nodes, &checked.doc), "verify_ms": verified,
        }),
        headline: format!("{} proposes; committed and proved in {took:.1} ms", proposer.name),
        lines,
        value: (),
    })
}

/// Decides while the node that leads lies to the others; with enough voters, while another is killed.
pub(super) fn lie(
    root: &Path,
    processes: &Processes,
    nodes: &mut [Node],
) -> Result<Step<()>, Failure> {
    let before = consensus(&nodes[0])?;
    let liar = leader(nodes, &before)?;
    // Chosen anew: who leads may be the one that proposed so far.
    let proposer = voter_but(nodes, &before, &[liar])?;
    let gone = match before.faults_tolerated {
        0 | 1 => None,
        _ => Some(voter_but(nodes, &before, &[liar, proposer])?),
    };
    processes.kill(&nodes[liar])?;
    fleet::restart_as(processes, &mut nodes[liar], &[(LIAR_ENV, "equivocate")])?;
    reached(&nodes[proposer], nodes[liar].ready.peer)?;
    if let Some(gone) = gone {
        processes.kill(&nodes[gone])?;
    }
    let honest: Vec<usize> =
        (0..nodes.len()).filter(|at| *at != liar && Some(*at) != gone).collect();
    let mut wrong = Vec::new();
    let mut took = Vec::new();
    let mut last = None;
    for number in 1..=STATEMENTS_UNDER_LIES {
        let commit = propose(&nodes[proposer], &format!("Said under lies, number {number}."))?;
        wrong.extend(alike(honest.iter().map(|at| &nodes[*at]), &commit)?);
        took.push(commit.elapsed_ms.unwrap_or(0.0));
        last = Some(commit);
    }
    let commit = last.ok_or_else(|| missing("no statement"))?;
    let after = consensus(&nodes[proposer])?;
    let lies = lies(&nodes[liar])?;
    if lies == 0 {
        wrong.push(format!("{} told no lie", nodes[liar].name));
    }
    let proof = Proof::of(root, &nodes[proposer], &commit, "lie")?;
    let checked = proof.check()?;
    wrong.extend(proof.wrong(&commit, &checked, after.quorum));
    let name = nodes[liar].name.clone();
    let killed = gone.map(|gone| nodes[gone].name.clone());
    // From here on it is honest again, and the killed one is back.
    processes.kill(&nodes[liar])?;
    for back in std::iter::once(liar).chain(gone) {
        fleet::restart(processes, &mut nodes[back])?;
    }
    for back in std::iter::once(liar).chain(gone) {
        wrong.extend(alike([&nodes[back]], &commit)?);
    }
    let and_gone = killed.as_ref().map_or(String::new(), |name| format!(" while {name} is killed"));
    Ok(Step {
        wrong,
        detail: json!({
            "liar": name, "killed": killed, "lies": lies, "statements": STATEMENTS_UNDER_LIES,
            "views": [before.view, after.view], "commit_ms": took, "index": commit.index,
            "proof_bytes": proof.bytes, "signers": signers(nodes, &checked.doc),
        }),
        headline: format!(
            "{name} leads and lies{and_gone}; {STATEMENTS_UNDER_LIES} statements are committed all the same"
        ),
        lines: vec![
            format!(
                "it told {lies} lies: other proposals, votes and cosignatures to some than to others"
            ),
            format!(
                "from view {} to {}; the commits took {} ms",
                before.view,
                after.view,
                took.iter().map(|ms| format!("{ms:.0}")).collect::<Vec<_>>().join(", ")
            ),
            "the logs of all honest nodes agree, and the proof of the last holds".to_owned(),
            match killed {
                Some(_) => {
                    format!("two faults at once: {} voters tolerate them", after.voters.len())
                }
                None => format!(
                    "one fault: {} voters tolerate no second one; the next step shows another",
                    after.voters.len()
                ),
            },
        ],
        value: (),
    })
}

/// Decides while the node that leads is killed.
pub(super) fn kill(
    root: &Path,
    processes: &Processes,
    nodes: &mut [Node],
) -> Result<Step<()>, Failure> {
    let before = consensus(&nodes[0])?;
    let gone = leader(nodes, &before)?;
    let proposer = voter_but(nodes, &before, &[gone])?;
    processes.kill(&nodes[gone])?;
    let commit = propose(&nodes[proposer], "Said while one voter is gone.")?;
    let honest = nodes.iter().enumerate().filter(|(at, _)| *at != gone).map(|(_, node)| node);
    let mut wrong = alike(honest, &commit)?;
    let after = consensus(&nodes[proposer])?;
    let proof = Proof::of(root, &nodes[proposer], &commit, "kill")?;
    let checked = proof.check()?;
    wrong.extend(proof.wrong(&commit, &checked, after.quorum));
    fleet::restart(processes, &mut nodes[gone])?;
    let began = Instant::now();
    wrong.extend(alike([&nodes[gone]], &commit)?);
    let back = began.elapsed();
    let took = commit.elapsed_ms.unwrap_or(0.0);
    let name = &nodes[gone].name;
    Ok(Step {
        wrong,
        detail: json!({
            "killed": name, "views": [before.view, after.view], "commit_ms": took,
            "index": commit.index, "proof_bytes": proof.bytes,
            "signers": signers(nodes, &checked.doc), "caught_up_ms": span::millis(back),
        }),
        headline: format!(
            "{name} leads and is killed; the others decide on after {}",
            span::show(Duration::from_secs_f64(took / 1e3))
        ),
        lines: vec![
            format!("from view {} to {}: {}", before.view, after.view, led(nodes, &after)),
            format!("{name} is back and has what was decided after {}", span::show(back)),
        ],
        value: (),
    })
}

/// A proof and its policy as files.
struct Proof {
    path: PathBuf,
    policy: PathBuf,
    bytes: usize,
}

/// What `exo verify` said.
struct Checked {
    doc: VerifiedDoc,
    took: Duration,
}

impl Proof {
    /// Fetches the proof of a decision and the policy of its epoch.
    fn of(root: &Path, node: &Node, commit: &CommitDoc, name: &str) -> Result<Self, Failure> {
        let (path, policy) =
            (root.join(format!("{name}.tlog-proof")), root.join(format!("{name}.tlog-policy")));
        let proof = node.client.text(&format!("/v1/decisions/{}/proof", commit.index))?;
        let text = node.client.text(&format!("/v1/decisions/policy?epoch={}", commit.epoch))?;
        for (path, text) in [(&path, &proof), (&policy, &text)] {
            std::fs::write(path, text).map_err(|error| Failure::file(path, &error))?;
        }
        Ok(Self { path, policy, bytes: proof.len() })
    }

    /// Runs `exo verify` on the files, in a process that is told nothing else.
    fn check(&self) -> Result<Checked, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(ErrorCode::Io, format!("`exo verify` cannot be run: {error}"))
        };
        let program = std::env::current_exe().map_err(failed)?;
        let began = Instant::now();
        let output = Command::new(program)
            .args(["verify", "--json", "--policy"])
            .arg(&self.policy)
            .arg(&self.path)
            .env_clear()
            .env("EXO_DATA_DIR", "/nonexistent")
            .stdin(Stdio::null())
            .output()
            .map_err(failed)?;
        let took = began.elapsed();
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let message = format!("`exo verify` says: {}", said.trim());
            return Err(Failure::new(ErrorCode::ProofInvalid, message));
        }
        let doc: Document<VerifiedDoc> = serde_json::from_str(&said).map_err(|error| {
            Failure::new(ErrorCode::Internal, format!("`exo verify` says {said}: {error}"))
        })?;
        Ok(Checked { doc: doc.body, took })
    }

    /// What a proof that holds says otherwise than it should.
    fn wrong(&self, commit: &CommitDoc, checked: &Checked, quorum: usize) -> Vec<String> {
        let mut wrong = Vec::new();
        if checked.doc.index != commit.index {
            wrong.push(format!("the proof is of entry {}", checked.doc.index));
        }
        if checked.doc.signers.len() < quorum {
            wrong.push(format!("{} of {quorum} signed", checked.doc.signers.len()));
        }
        wrong
    }
}

/// Proposes a statement and waits until it is certified.
fn propose(node: &Node, text: &str) -> Result<CommitDoc, Failure> {
    let millis = u64::try_from(DECIDED_WITHIN.as_millis()).ok();
    let request = ProposeRequest {
        statement: Some(BASE64.encode(text.as_bytes())),
        deadline_ms: millis,
        ..ProposeRequest::default()
    };
    let within = DECIDED_WITHIN + Duration::from_secs(5);
    let commit: Document<CommitDoc> = node.client.post_within("/v1/decisions", &request, within)?;
    Ok(commit.body)
}

/// Waits until the nodes have a decision; says which of them has another in its place.
fn alike<'a>(
    nodes: impl IntoIterator<Item = &'a Node>,
    commit: &CommitDoc,
) -> Result<Vec<String>, Failure> {
    let mut wrong = Vec::new();
    let mut expected: Option<Option<String>> = None;
    for node in nodes {
        let began = Instant::now();
        let found = loop {
            let found =
                node.client.get::<Document<CommitDoc>>(&format!("/v1/decisions/{}", commit.index));
            match found {
                Ok(found) if found.body.certified => break Some(found.body),
                Err(failure) if !WAIT_FOR.contains(&failure.code.as_str()) => return Err(failure),
                _ if began.elapsed() > FOLLOWED_WITHIN => break None,
                _ => std::thread::sleep(LOOK_EVERY),
            }
        };
        let Some(found) = found else {
            wrong.push(format!("{} has no commit #{}", node.name, commit.index));
            continue;
        };
        let same = (found.member, &found.summary) == (commit.member, &commit.summary);
        let entry = expected.get_or_insert_with(|| found.entry.clone());
        if !same || *entry != found.entry {
            wrong.push(format!("{} has another commit #{}", node.name, commit.index));
        }
    }
    Ok(wrong)
}

/// How deciding stands at a node.
fn consensus(node: &Node) -> Result<ConsensusDoc, Failure> {
    let status: Document<StatusDoc> = node.client.get("/v1/status")?;
    status.body.consensus.ok_or_else(|| missing("the nodes do not decide together"))
}

/// Waits until a voter has a session with a peer again.
fn reached(node: &Node, peer: PeerId) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        let consensus = consensus(node)?;
        if consensus.voters.iter().any(|voter| voter.peer == peer && voter.active) {
            return Ok(());
        }
        if began.elapsed() > FOLLOWED_WITHIN {
            return Err(Failure::new(
                ErrorCode::Unreachable,
                format!("{} does not reach {} again", node.name, peer.short()),
            ));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The node that leads; the first voter while nobody does.
fn leader(nodes: &[Node], consensus: &ConsensusDoc) -> Result<usize, Failure> {
    let leads = consensus.primary.or_else(|| consensus.voters.first().map(|voter| voter.peer));
    let at = nodes.iter().position(|node| Some(node.ready.peer) == leads);
    at.ok_or_else(|| missing("nobody leads"))
}

/// A voter that is none of these.
fn voter_but(nodes: &[Node], consensus: &ConsensusDoc, but: &[usize]) -> Result<usize, Failure> {
    let votes = |node: &Node| consensus.voters.iter().any(|voter| voter.peer == node.ready.peer);
    let at = (0..nodes.len()).find(|at| !but.contains(at) && votes(&nodes[*at]));
    at.ok_or_else(|| missing("there is no other voter"))
}

/// How many lies a node told by its own account.
fn lies(node: &Node) -> Result<u64, Failure> {
    let metrics = node.client.text("/metrics")?;
    let counts = metrics.lines().filter(|line| line.starts_with(LIES_METRIC));
    let counts = counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    Ok(counts.sum())
}

/// Names of who signed.
fn signers(nodes: &[Node], doc: &VerifiedDoc) -> Vec<String> {
    let name = |signer: &String| {
        let id = signer.rsplit('/').next().unwrap_or(signer);
        let node = nodes.iter().find(|node| node.ready.peer.to_string() == id);
        node.map_or_else(|| id.to_owned(), |node| node.name.to_string())
    };
    doc.signers.iter().map(name).collect()
}

/// Names of the nodes without a vote.
fn followers(nodes: &[Node], consensus: &ConsensusDoc) -> String {
    let votes = |node: &&Node| consensus.voters.iter().any(|voter| voter.peer == node.ready.peer);
    let names: Vec<&str> =
        nodes.iter().filter(|node| !votes(node)).map(|node| node.name.as_str()).collect();
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}

/// Who leads, in words.
fn led(nodes: &[Node], consensus: &ConsensusDoc) -> String {
    let node = nodes.iter().find(|node| Some(node.ready.peer) == consensus.primary);
    node.map_or("nobody leads now".to_owned(), |node| format!("{} leads now", node.name))
}

/// The step of a program that has no liar in it.
pub(super) fn no_liar() -> (Value, String) {
    let how = "cargo run --release --locked -p exo --features liar -- demo --no-wait";
    (
        json!({"skipped": "this build contains no liar", "how": how}),
        format!("not shown: this build contains no liar; `{how}` does"),
    )
}

/// What the nodes commit.
const STATEMENT: &str = "Every member answers questions about its own texts.";
/// Voters that tolerate one fault.
const VOTERS_FOR_ONE_FAULT: usize = 4;
/// Voters that tolerate two.
const VOTERS_FOR_TWO_FAULTS: usize = 7;
/// Statements that are committed while a node lies.
const STATEMENTS_UNDER_LIES: usize = 3;
/// How long a decision may take while a node lies or is gone: some views are given up meanwhile.
const DECIDED_WITHIN: Duration = Duration::from_secs(30);
/// How long a node may take to have what others have decided.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(30);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What a node says of a decision that it does not have yet.
const WAIT_FOR: [&str; 4] =
    ["decision-not-found", "not-certified", "insufficient-peers", "not-a-member"];
/// Switches a node's lies on, in a build that can lie.
const LIAR_ENV: &str = "EXO_LIAR";
/// Counts them.
const LIES_METRIC: &str = "exo_liar_lies_total";
