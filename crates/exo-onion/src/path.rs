//! Path selection: which relays a packet passes. A pure function of who there is and of chance.

use exo_types::PeerId;
use exo_types::limits::{ONION_FIRST_RELAYS_MAX, ONION_HOPS_MAX};

use crate::random::{Random, below};

/// A member, as the asker's directory has it. Each member is in the list once.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its id.
    pub peer: PeerId,
    /// Whose it is, where that is known.
    pub organisation: Option<&'a str>,
    /// Whether it relays and there is a key to send it packets with.
    pub relays: bool,
}

/// Whether one organisation may have two members on a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Diversity {
    /// No two members of one organisation, the asker and the target included: they may compare notes.
    /// A member whose organisation is not known counts as one of its own.
    #[default]
    Organisation,
    /// Any relays. For federations with too few organisations.
    Any,
}

/// What a path must be like.
#[derive(Clone, Copy, Debug)]
pub struct PathRules<'a> {
    /// Who asks: never on the path.
    pub asker: PeerId,
    /// Who answers: the end of the path, and nowhere else on it.
    pub target: PeerId,
    /// Relays before the target, 0 to [`ONION_HOPS_MAX`] - 1.
    pub relays: usize,
    /// The relays that this asker begins its paths with, in this order of preference: the first one that
    /// will do is taken. Empty when paths may begin anywhere.
    pub first: &'a [PeerId],
    /// Relays to leave out, such as those of a path that failed.
    pub avoid: &'a [PeerId],
    /// What organisations have to do with it.
    pub diversity: Diversity,
}

/// Why there is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// More relays than a packet has room for.
    #[error("{0} relays were asked for, where {max} are possible", max = ONION_HOPS_MAX - 1)]
    TooMany(usize),
    /// The asker is the target.
    #[error("a path to oneself hides nothing")]
    ToSelf,
    /// Fewer relays will do than were asked for.
    #[error("{asked} relays were asked for, and {found} will do")]
    TooFew {
        /// How many were asked for.
        asked: usize,
        /// How many were found.
        found: usize,
    },
    /// None of the relays that paths begin with will do: draw another one with [`first_relays`].
    #[error("none of the relays that paths begin with will do")]
    NoFirst,
}

/// Draws a path: the relays, then the target. After the first, each relay is drawn with the same chance
/// from all that will do; none is on it twice.
///
/// # Errors
/// [`PathError`].
pub fn select_path(
    candidates: &[Candidate<'_>],
    rules: &PathRules<'_>,
    random: Random<'_>,
) -> Result<Vec<PeerId>, PathError> {
    if rules.relays >= ONION_HOPS_MAX {
        return Err(PathError::TooMany(rules.relays));
    }
    if rules.asker == rules.target {
        return Err(PathError::ToSelf);
    }
    let mut draw = Draw::new(candidates, rules.diversity);
    draw.exclude(&rules.asker);
    draw.exclude(&rules.target);
    for peer in rules.avoid {
        draw.left.retain(|candidate| candidate.peer != *peer);
    }
    if rules.relays > 0 && !rules.first.is_empty() {
        let first = rules.first.iter().find(|first| draw.offers(first));
        draw.take(first.ok_or(PathError::NoFirst)?);
    }
    draw.fill(rules.relays, random);
    let (asked, found) = (rules.relays, draw.taken.len());
    if found < asked {
        return Err(PathError::TooFew { asked, found });
    }
    let mut path = draw.taken;
    path.push(rules.target);
    Ok(path)
}

/// Draws relays for an asker to begin its paths with, `count` or as many as there are. Keep them: who
/// changes its first relay often will some day begin at one that watches.
pub fn first_relays(
    candidates: &[Candidate<'_>],
    asker: PeerId,
    diversity: Diversity,
    count: usize,
    random: Random<'_>,
) -> Vec<PeerId> {
    let mut draw = Draw::new(candidates, diversity);
    draw.exclude(&asker);
    draw.fill(count.min(ONION_FIRST_RELAYS_MAX), random);
    draw.taken
}

/// Relays that will do and those taken.
struct Draw<'a> {
    all: &'a [Candidate<'a>],
    left: Vec<Candidate<'a>>,
    taken: Vec<PeerId>,
    diversity: Diversity,
}

impl<'a> Draw<'a> {
    fn new(all: &'a [Candidate<'a>], diversity: Diversity) -> Self {
        let left = all.iter().copied().filter(|candidate| candidate.relays).collect();
        Self { all, left, taken: Vec::with_capacity(ONION_HOPS_MAX), diversity }
    }

    fn offers(&self, peer: &PeerId) -> bool {
        self.left.iter().any(|candidate| candidate.peer == *peer)
    }

    /// Takes a member and its organisation out of what is left.
    fn exclude(&mut self, peer: &PeerId) {
        let named = self.all.iter().find(|candidate| candidate.peer == *peer);
        let organisation = named
            .and_then(|candidate| candidate.organisation)
            .filter(|_| self.diversity == Diversity::Organisation);
        self.left.retain(|candidate| {
            let same = organisation.is_some() && candidate.organisation == organisation;
            candidate.peer != *peer && !same
        });
    }

    fn take(&mut self, peer: &PeerId) {
        self.exclude(peer);
        self.taken.push(*peer);
    }

    /// Draws until `count` are taken or none is left.
    fn fill(&mut self, count: usize, random: Random<'_>) {
        while self.taken.len() < count {
            let at = below(random, self.left.len() as u64) as usize;
            let Some(candidate) = self.left.get(at).copied() else { return };
            self.take(&candidate.peer);
        }
    }
}
