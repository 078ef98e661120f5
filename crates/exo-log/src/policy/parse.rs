//! Reading a policy.

use std::collections::{BTreeMap, BTreeSet};

use exo_crypto::CosignerKey;
use exo_types::limits::{LOG_POLICY_BYTES_MAX, LOG_POLICY_GROUPS_MAX, LOG_POLICY_WITNESSES_MAX};

use super::{Group, LineProblem, Part, Policy, PolicyError, PolicyName, Threshold, Witness};
use crate::cosign::Cosigner;
use crate::note::{KeyId, KeyName, NotAKeyName, VerifierKey, VerifierKeyError};
use crate::text::decimal;

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        if bytes.len() > LOG_POLICY_BYTES_MAX {
            return Err(PolicyError::TooLong(bytes.len()));
        }
        let Some(lines) = bytes.strip_suffix(b"\n") else {
            let empty = bytes.is_empty();
            return Err(if empty { PolicyError::NoQuorum } else { PolicyError::Unterminated });
        };
        let mut reading = Reading::default();
        for (at, line) in (1..).zip(lines.split(|byte| *byte == b'\n')) {
            reading.line(line).map_err(|problem| PolicyError::Line { line: at, problem })?;
        }
        let quorum = reading.quorum.ok_or(PolicyError::NoQuorum)?;
        Ok(Self { witnesses: reading.witnesses, groups: reading.groups, quorum })
    }
}

/// What has been read so far.
#[derive(Default)]
struct Reading {
    witnesses: Vec<Witness>,
    groups: Vec<Group>,
    quorum: Option<Part>,
    names: BTreeMap<PolicyName, Part>,
    in_groups: BTreeSet<Part>,
    keys: BTreeSet<Vec<u8>>,
    key_ids: BTreeSet<(KeyName, KeyId)>,
}

impl Reading {
    fn line(&mut self, line: &[u8]) -> Result<(), LineProblem> {
        if line.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
            return Err(LineProblem::Control);
        }
        let words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
        let words: Vec<&[u8]> = words.collect();
        match words.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with(b"#") => Ok(()),
            [b"witness", name, key] => self.witness(name, key, None),
            [b"witness", name, key, url] => self.witness(name, key, Some(url)),
            [b"group", name, threshold, members @ ..] => self.group(name, threshold, members),
            [b"quorum", name] => self.quorum(name),
            [b"log", ..] => Err(LineProblem::Log),
            [b"witness" | b"group" | b"quorum", ..] => Err(LineProblem::Words),
            _ => Err(LineProblem::Keyword),
        }
    }

    fn witness(&mut self, name: &[u8], key: &[u8], url: Option<&[u8]>) -> Result<(), LineProblem> {
        let not_text = LineProblem::VerifierKey(VerifierKeyError::Name(NotAKeyName));
        let key = std::str::from_utf8(key).map_err(|_| not_text)?;
        let key: VerifierKey = key.parse().map_err(LineProblem::VerifierKey)?;
        let cosigner = Cosigner::from_verifier_key(&key).map_err(LineProblem::NotACosigner)?;
        if self.witnesses.len() == LOG_POLICY_WITNESSES_MAX {
            return Err(LineProblem::TooMany);
        }
        if !self.keys.insert(CosignerKey::as_bytes(cosigner.key()).to_vec()) {
            return Err(LineProblem::SameKey);
        }
        if !self.key_ids.insert((cosigner.name().clone(), cosigner.id())) {
            return Err(LineProblem::SameKeyId);
        }
        let name = self.define(name, Part::Witness(self.witnesses.len()))?;
        let url = url.map(|url| PolicyName(url.to_vec()));
        self.witnesses.push(Witness { name, cosigner, url });
        Ok(())
    }

    fn group(
        &mut self,
        name: &[u8],
        threshold: &[u8],
        members: &[&[u8]],
    ) -> Result<(), LineProblem> {
        if members.is_empty() {
            return Err(LineProblem::Words);
        }
        let threshold = match threshold {
            b"any" => Threshold::Any,
            b"all" => Threshold::All,
            number => {
                let number = std::str::from_utf8(number).ok().and_then(decimal);
                let number = number.and_then(|number| usize::try_from(number).ok());
                let fits = number.filter(|number| (1..=members.len()).contains(number));
                Threshold::Of(fits.ok_or(LineProblem::Threshold)?)
            }
        };
        if self.groups.len() == LOG_POLICY_GROUPS_MAX {
            return Err(LineProblem::TooMany);
        }
        let mut parts = Vec::with_capacity(members.len());
        for member in members {
            let part = self.find(member)?;
            if !self.in_groups.insert(part) {
                return Err(LineProblem::MemberTwice(PolicyName(member.to_vec())));
            }
            parts.push(part);
        }
        let name = self.define(name, Part::Group(self.groups.len()))?;
        self.groups.push(Group { name, threshold, members: parts });
        Ok(())
    }

    fn quorum(&mut self, name: &[u8]) -> Result<(), LineProblem> {
        if self.quorum.is_some() {
            return Err(LineProblem::SecondQuorum);
        }
        if name == NONE {
            return Err(LineProblem::QuorumNone);
        }
        self.quorum = Some(self.find(name)?);
        Ok(())
    }

    fn define(&mut self, name: &[u8], part: Part) -> Result<PolicyName, LineProblem> {
        let name = PolicyName(name.to_vec());
        if name.0 == NONE || self.names.insert(name.clone(), part).is_some() {
            return Err(LineProblem::NameTaken(name));
        }
        Ok(name)
    }

    fn find(&self, name: &[u8]) -> Result<Part, LineProblem> {
        let name = PolicyName(name.to_vec());
        self.names.get(&name).copied().ok_or(LineProblem::UnknownName(name))
    }
}

/// The predefined name for no quorum at all.
const NONE: &[u8] = b"none";
