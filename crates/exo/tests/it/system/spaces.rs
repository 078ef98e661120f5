//! Network namespaces on one bridge, in which messages between any two can be lost on their way.
//!
//! What is lost is lost silently: the sender's neighbour table names a link address that nobody has.

use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Namespaces, numbered from 0; gone when dropped.
#[derive(Debug)]
pub(super) struct Spaces {
    prefix: String,
    count: usize,
}

impl Spaces {
    /// Makes them; the error says why this machine does not let us.
    pub(super) fn make(count: usize) -> Result<Self, String> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("exo{}-{number}-", std::process::id());
        // Dropped, and with it what was made, when one of the steps fails.
        let spaces = Self { prefix, count };
        let switch = spaces.switch();
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", "bridge", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "bridge", "up"])?;
        for at in 0..count {
            let (space, port, link) = (spaces.name(at), format!("port{at}"), address(at));
            ip(&["netns", "add", &space])?;
            ip(&[
                "-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "eth0",
                "netns", &space,
            ])?;
            ip(&["-n", &switch, "link", "set", &port, "master", "bridge", "up"])?;
            ip(&["-n", &space, "link", "set", "lo", "up"])?;
            ip(&["-n", &space, "link", "set", "eth0", "address", &link, "up"])?;
            ip(&["-n", &space, "addr", "add", &format!("{}/24", host(at)), "dev", "eth0"])?;
        }
        Ok(spaces)
    }

    /// As [`Spaces::make`]; where this machine makes none it is said, and where they are demanded it is a
    /// failure.
    pub(super) fn make_or_say(count: usize) -> Option<Self> {
        match Self::make(count) {
            Ok(spaces) => Some(spaces),
            Err(why) => {
                let demanded = std::env::var_os("EXO_NAMESPACES").is_some();
                assert!(!demanded, "EXO_NAMESPACES is set, and there are none: {why}");
                println!("skipped: no network namespaces can be made here (root is needed): {why}");
                None
            }
        }
    }

    pub(super) fn name(&self, at: usize) -> String {
        format!("{}{at}", self.prefix)
    }

    fn switch(&self) -> String {
        format!("{}switch", self.prefix)
    }

    /// Loses everything that the first sends to the second.
    pub(super) fn lose(&self, from: usize, to: usize) {
        self.neighbour(from, to, NOBODY);
    }

    /// Nothing is lost any more.
    pub(super) fn heal(&self) {
        for from in 0..self.count {
            for to in (0..self.count).filter(|to| *to != from) {
                self.neighbour(from, to, &address(to));
            }
        }
    }

    /// Parts the nodes: those named reach each other and nobody else, and so do the others.
    pub(super) fn part(&self, some: &[usize]) {
        for from in 0..self.count {
            for to in 0..self.count {
                if some.contains(&from) != some.contains(&to) {
                    self.lose(from, to);
                }
            }
        }
    }

    fn neighbour(&self, from: usize, to: usize, link: &str) {
        let (space, host) = (self.name(from), host(to));
        let set = ["-n", &space, "neigh", "replace", &host, "lladdr", link, "dev", "eth0", "nud"];
        ip(&[&set[..], &["permanent"]].concat()).expect("a neighbour");
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        for at in 0..self.count {
            // Whatever of them there is.
            let _ = ip(&["netns", "del", &self.name(at)]);
        }
        let _ = ip(&["netns", "del", &self.switch()]);
    }
}

/// The address of a namespace.
pub(super) fn host(at: usize) -> String {
    format!("10.77.0.{}", at + 1)
}

/// Does something on a thread of its own that is in the namespace.
pub(super) fn within<T: Send>(space: &str, act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let file = File::open(format!("/run/netns/{space}")).expect("the namespace");
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), kind).expect("moves there");
            act()
        });
        inside.join().expect("does not panic")
    })
}

fn address(at: usize) -> String {
    format!("02:00:00:00:00:{:02x}", at + 1)
}

fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).output().map_err(|error| format!("ip: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {args:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// A link address that no interface has.
const NOBODY: &str = "02:00:00:00:ff:ff";
