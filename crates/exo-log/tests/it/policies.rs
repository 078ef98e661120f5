//! Policies: their files, what is refused on which line, and when they are met.

use std::collections::BTreeSet;

use exo_log::{LineProblem, MembersError, Policy, PolicyError};
use exo_types::PeerId;
use proptest::prelude::*;

use crate::Federation;

/// Verifier keys of so many witnesses.
fn keys(count: u8) -> Vec<String> {
    let federation = Federation::new(1, count, 0);
    federation.signers.iter().map(|signer| signer.cosigner().verifier_key().to_string()).collect()
}

fn parse(text: &str) -> Result<Policy, PolicyError> {
    Policy::parse(text.as_bytes())
}

fn problem(text: &str) -> (usize, LineProblem) {
    match parse(text) {
        Err(PolicyError::Line { line, problem }) => (line, problem),
        other => panic!("{other:?}"),
    }
}

fn set(places: &[usize]) -> BTreeSet<usize> {
    places.iter().copied().collect()
}

#[test]
fn the_members_of_a_federation_are_a_group_with_the_quorum_as_its_threshold() {
    let federation = Federation::new(1, 4, 0);
    let policy = federation.policy(3);
    let text = String::from_utf8(policy.to_bytes()).expect("ASCII");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 6);
    for (line, (peer, _)) in lines.iter().zip(&federation.members) {
        let origin = &federation.origin;
        assert!(line.starts_with(&format!("witness {peer} {origin}/{peer}+")), "{line}");
    }
    let names: Vec<_> = federation.members.iter().map(|(peer, _)| peer.to_string()).collect();
    assert_eq!(lines[4], format!("group members 3 {}", names.join(" ")));
    assert_eq!(lines[5], "quorum members");
    assert_eq!(parse(&text), Ok(policy.clone()));
    assert_eq!(policy.origin(), Some(federation.origin.clone()));
    assert_eq!(policy.signatures_needed(), 3);
    let mut reversed = federation.members.clone();
    reversed.reverse();
    let same = Policy::for_members(&federation.origin, &reversed, 3).expect("a policy");
    assert_eq!(same.to_bytes(), policy.to_bytes());
}

#[test]
fn members_that_make_no_policy_are_refused() {
    let federation = Federation::new(1, 2, 0);
    let make = |members: &[_], quorum| {
        Policy::for_members(&federation.origin, members, quorum).map(|_| ())
    };
    assert_eq!(make(&[], 1), Err(MembersError::Count(0)));
    for quorum in [0, 3] {
        let refused = MembersError::Quorum { quorum, members: 2 };
        assert_eq!(make(&federation.members, quorum), Err(refused));
    }
    let [first, second] = federation.members.as_slice() else { panic!("two") };
    let twice = [first.clone(), (first.0, second.1.clone())];
    assert_eq!(make(&twice, 1), Err(MembersError::MemberTwice(first.0)));
    let same_key = [first.clone(), (PeerId::new([9; 32]), first.1.clone())];
    assert_eq!(make(&same_key, 1), Err(MembersError::KeyTwice(PeerId::new([9; 32]))));
    let many: Vec<_> = (0..=256).map(|_| first.clone()).collect();
    assert_eq!(make(&many, 1), Err(MembersError::Count(257)));
}

#[test]
fn the_example_of_the_specification_is_met_as_it_says() {
    let keys = keys(6);
    let mut text = String::from("# comment\n\n\t\n");
    for (name, key) in ["X1", "X2", "X3", "Y1", "Y2", "Y3"].iter().zip(&keys) {
        text += &format!("  witness\t{name} {key} https://{name}.example/ \n");
    }
    text += "  # another comment\ngroup X-witnesses 2 X1 X2 X3\ngroup Y-witnesses any Y1 Y2 Y3\n";
    text += "group X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n";
    let policy = parse(&text).expect("a policy");
    for (signed, met) in [
        (&[0, 1, 3][..], true),
        (&[0, 2, 4, 5], true),
        (&[0, 1, 2], false),
        (&[0, 3, 4, 5], false),
        (&[], false),
        (&[0, 1, 2, 3, 4, 5], true),
    ] {
        assert_eq!(policy.is_met_by(&set(signed)), met, "{signed:?}");
    }
    assert_eq!(policy.signatures_needed(), 3);
    assert_eq!(policy.witnesses().len(), 6);
    let written = policy.to_bytes();
    assert_eq!(Policy::parse(&written), Ok(policy.clone()));
    assert!(String::from_utf8(written).expect("ASCII").contains(" https://X1.example/\n"));
}

#[test]
fn a_quorum_of_one_witness_needs_no_group() {
    let policy = parse(&format!("witness K {}\nquorum K\n", keys(1)[0])).expect("a policy");
    assert!(policy.is_met_by(&set(&[0])) && !policy.is_met_by(&set(&[])));
    assert_eq!(policy.signatures_needed(), 1);
}

#[test]
fn names_are_opaque_bytes() {
    let key = &keys(1)[0];
    let text = [b"witness \xff\xfe ".as_slice(), key.as_bytes(), b"\nquorum \xff\xfe\n"].concat();
    let policy = Policy::parse(&text).expect("a policy");
    assert_eq!(policy.to_bytes(), text);
    let kelvin = format!("witness \u{212a} {key}\nquorum K\n");
    assert!(matches!(problem(&kelvin), (2, LineProblem::UnknownName(_))));
}

#[test]
fn what_breaks_a_rule_is_refused_with_its_line() {
    let keys = keys(3);
    let two = format!("witness a {}\nwitness b {}\n", keys[0], keys[1]);
    let with = |lines: &str| problem(&format!("{two}{lines}\n"));
    assert!(matches!(with("witness a x"), (3, LineProblem::VerifierKey(_))));
    let third = &keys[2];
    assert!(matches!(with(&format!("witness a {third}")), (3, LineProblem::NameTaken(_))));
    assert!(matches!(with(&format!("witness none {third}")), (3, LineProblem::NameTaken(_))));
    assert!(matches!(with("group a 1 b"), (3, LineProblem::NameTaken(_))));
    assert_eq!(with(&format!("witness c {}", keys[0])), (3, LineProblem::SameKey));
    assert_eq!(with(&format!("witness c {third} url more")), (3, LineProblem::Words));
    assert_eq!(with("witness c"), (3, LineProblem::Words));
    assert_eq!(with("group g all"), (3, LineProblem::Words));
    assert_eq!(with("group g"), (3, LineProblem::Words));
    for threshold in ["0", "3", "01", "+1", "some", "18446744073709551617"] {
        let outcome = with(&format!("group g {threshold} a b"));
        assert_eq!(outcome, (3, LineProblem::Threshold), "{threshold}");
    }
    assert!(matches!(with("group g any a c"), (3, LineProblem::UnknownName(_))));
    assert!(matches!(with("group g any g"), (3, LineProblem::UnknownName(_))));
    assert!(matches!(with("group g any none"), (3, LineProblem::UnknownName(_))));
    assert!(matches!(with("group g any a a"), (3, LineProblem::MemberTwice(_))));
    let nested = with("group g any a b\ngroup h any g a");
    assert!(matches!(nested, (4, LineProblem::MemberTwice(_))));
    assert!(matches!(with("quorum c"), (3, LineProblem::UnknownName(_))));
    assert_eq!(with("quorum none"), (3, LineProblem::QuorumNone));
    assert_eq!(with("quorum a\nquorum a"), (4, LineProblem::SecondQuorum));
    assert_eq!(with("quorum"), (3, LineProblem::Words));
    assert_eq!(with(&format!("log {third}")), (3, LineProblem::Log));
    assert_eq!(with("Quorum a"), (3, LineProblem::Keyword));
    assert_eq!(with("quorum a\r"), (3, LineProblem::Control));
    assert_eq!(with("# \u{7f}"), (3, LineProblem::Control));
    let ed25519 = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    let outcome = with(&format!("witness e {ed25519}"));
    assert!(matches!(outcome, (3, LineProblem::NotACosigner(_))));
}

#[test]
fn a_policy_without_an_end_or_a_quorum_is_refused() {
    let key = &keys(1)[0];
    assert_eq!(parse(""), Err(PolicyError::NoQuorum));
    assert_eq!(parse(&format!("witness a {key}\n")), Err(PolicyError::NoQuorum));
    assert_eq!(parse(&format!("witness a {key}\nquorum a")), Err(PolicyError::Unterminated));
    let long = 2 * 1024 * 1024 + 1;
    assert_eq!(parse(&"#".repeat(long)), Err(PolicyError::TooLong(long)));
    let groups: String = (0..65)
        .map(|at| {
            format!(
                "group g{at} any {}\n",
                if at == 0 { "a".to_owned() } else { format!("g{}", at - 1) }
            )
        })
        .collect();
    let (line, problem) = problem(&format!("witness a {key}\n{groups}quorum a\n"));
    assert_eq!((line, problem), (66, LineProblem::TooMany));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_federations_policy_is_met_by_its_quorum_and_by_no_fewer(
        members in 1..8_u8, quorum in 1..8_usize, signed in proptest::collection::btree_set(0..8_usize, 0..8),
    ) {
        static ALL: std::sync::OnceLock<Federation> = std::sync::OnceLock::new();
        let all = ALL.get_or_init(|| Federation::new(1, 8, 0));
        let members = &all.members[..usize::from(members)];
        let quorum = 1 + quorum % members.len();
        let policy = Policy::for_members(&all.origin, members, quorum).expect("a policy");
        let signed: BTreeSet<_> = signed.into_iter().filter(|at| *at < members.len()).collect();
        prop_assert_eq!(policy.is_met_by(&signed), signed.len() >= quorum);
        prop_assert_eq!(policy.signatures_needed(), quorum);
    }

    #[test]
    fn any_lines_are_a_policy_or_an_error(
        words in proptest::collection::vec(prop::sample::select(vec![
            "witness", "group", "quorum", "log", "any", "all", "1", "2", "a", "b", "c", "none", "\n", "\n",
            "\n", "#", "KEY0", "KEY1", "\t", "\u{7f}",
        ]), 0..40),
    ) {
        static KEYS: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
        let keys = KEYS.get_or_init(|| keys(2));
        let words: Vec<_> = words.into_iter().map(|word| match word {
            "KEY0" => keys[0].as_str(),
            "KEY1" => keys[1].as_str(),
            word => word,
        }).collect();
        let text = words.join(" ");
        if let Ok(policy) = parse(&text) {
            prop_assert_eq!(Policy::parse(&policy.to_bytes()), Ok(policy.clone()));
            prop_assert!(!policy.is_met_by(&BTreeSet::new()), "nobody signs for nothing");
            prop_assert!(policy.is_met_by(&(0..policy.witnesses().len()).collect()));
        }
    }
}
