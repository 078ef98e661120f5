//! Joining by the command line.

use super::node::{Node, until};

#[test]
fn a_joiner_is_admitted_by_its_words_and_waits_for_that() {
    let (lab, clinic) = (Node::start("lab"), Node::start("clinic"));
    let invite = lab.run(&["invite", "new"]);
    let ticket = String::from_utf8(invite.stdout).expect("text");
    assert_eq!(ticket.lines().count(), 1, "the ticket alone is data: {ticket}");
    // From standard input; a ticket is never an argument.
    let joined =
        clinic.run_with_stdin(&["join", "--ticket-file", "-", "--no-wait", "--json"], &ticket);
    let stderr = String::from_utf8_lossy(&joined.stderr);
    assert_eq!(joined.status.code(), Some(0), "{stderr}");
    let pending: serde_json::Value = serde_json::from_slice(&joined.stdout).expect("JSON");
    assert_eq!((&pending["schema"], &pending["state"]), (&"exo.join/1".into(), &"pending".into()));
    let words: Vec<&str> =
        pending["words"].as_array().expect("words").iter().filter_map(|w| w.as_str()).collect();
    assert_eq!(words.len(), 4);
    until("the inviter sees it", || lab.json(&["status"])["peers"]["pending"] == 1);

    // A pending member gets nothing.
    let query = clinic.run(&["query", "moth", "--json"]);
    assert_ne!(query.status.code(), Some(0));

    let wrong = lab.run(&["peers", "approve", "abandon abandon abandon abandon"]);
    assert_eq!(wrong.status.code(), Some(4));
    let approved = lab.json(&["peers", "approve", &words.join(" ")]);
    assert_eq!((&approved["name"], &approved["unverified"]), (&"clinic".into(), &false.into()));
    until("the joiner is a member", || clinic.json(&["status"])["join"]["state"] == "member");
    assert_eq!(clinic.json(&["status"])["federation"]["founder_name"], "lab");
}

#[test]
fn joining_waits_and_then_says_what_it_brought() {
    let (lab, clinic) = (Node::start("lab"), Node::start("clinic"));
    let invite = lab.json(&["invite", "new", "--auto-approve"]);
    let ticket = clinic.write("ticket", invite["ticket"].as_str().expect("a ticket"));
    let joined = clinic.run(&["join", "--ticket-file", &ticket]);
    let stdout = String::from_utf8_lossy(&joined.stdout);
    assert!(stdout.contains("clinic is a member of federation"), "{stdout}");
    assert!(stdout.contains("lab"), "{stdout}");
    let shown = lab.json(&["peers", "show", "clinic"]);
    assert_eq!(shown["unverified"], true);
    // Its place is taken and the ticket used.
    let again = clinic.run(&["join", "--ticket-file", &ticket]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("error[already-member]"));
    let other = Node::start("other");
    let late = other.run(&["join", "--ticket-file", &ticket]);
    assert_eq!(late.status.code(), Some(5), "{}", String::from_utf8_lossy(&late.stderr));
    assert!(String::from_utf8_lossy(&late.stderr).contains("error[join-refused]"));
}

#[test]
fn approval_that_does_not_come_ends_the_wait() {
    let (lab, clinic) = (Node::start("lab"), Node::start("clinic"));
    let invite = lab.json(&["invite", "new"]);
    let ticket = clinic.write("ticket", invite["ticket"].as_str().expect("a ticket"));
    let waited = clinic.run(&["join", "--ticket-file", &ticket, "--timeout", "1s"]);
    assert_eq!(waited.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&waited.stderr);
    assert!(stderr.contains("error[join-in-progress]"), "{stderr}");
    let rejected = lab.json(&["peers", "reject", "clinic"]);
    assert_eq!(rejected["name"], "clinic");
    until("the joiner knows", || clinic.json(&["status"])["join"]["state"] == "refused");
}

#[test]
fn a_ticket_that_is_none_is_refused() {
    let node = Node::start("lab");
    for text in ["", "exo1", "exo1qqqq", "hello", &"x".repeat(10_000)] {
        let file = node.write("ticket", text);
        let output = node.run(&["join", "--ticket-file", &file]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("error[ticket-malformed]"), "{text:?}: {stderr}");
    }
    assert_eq!(node.run(&["join", "exo1abc"]).status.code(), Some(2), "never an argument");
}
