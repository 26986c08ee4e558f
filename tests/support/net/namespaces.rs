//! Network namespaces: separate hosts as far as the network is concerned, joined by a virtual cable.

use std::{
    io::{self, Write},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

/// Two hosts with a cable between them, and nothing else. Needs the rights of an administrator.
pub struct Namespaces {
    names: [String; 2],
}

impl Namespaces {
    /// Makes them; or says on the terminal why a test is skipped.
    pub fn new(test: &str) -> Option<Self> {
        match Self::make() {
            Ok(namespaces) => Some(namespaces),
            Err(reason) => {
                // Past what the test runner keeps of a test that passes.
                let _ = writeln!(io::stderr(), "\nSKIPPED {test}: {reason}");
                None
            }
        }
    }

    fn make() -> Result<Self, String> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("pf{}n{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let [a, b] = ["a", "b"].map(|side| format!("{name}{side}"));
        ip(&["netns", "add", &a])?;
        // From here on they are removed, whatever fails.
        let namespaces = Self { names: [a.clone(), b.clone()] };
        ip(&["netns", "add", &b])?;
        ip(&["-n", &a, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", &b])?;
        for (side, namespace) in [&a, &b].into_iter().enumerate() {
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
            ip(&["-n", namespace, "address", "add", &format!("10.77.0.{}/24", side + 1), "dev", "cable"])?;
            ip(&["-n", namespace, "link", "set", "cable", "up"])?;
            ip(&["-n", namespace, "route", "add", "224.0.0.0/4", "dev", "cable"])?;
        }
        Ok(namespaces)
    }

    /// The name of one of the two.
    pub fn name(&self, side: usize) -> &str {
        &self.names[side]
    }

    /// The address of one of the two.
    pub fn address(&self, side: usize) -> String {
        format!("10.77.0.{}", side + 1)
    }

    /// Pulls the cable: nothing passes, and nobody is told.
    pub fn pull(&self) {
        ip(&["-n", &self.names[0], "link", "set", "cable", "down"]).unwrap();
    }

    /// Plugs it in again.
    pub fn plug(&self) {
        ip(&["-n", &self.names[0], "link", "set", "cable", "up"]).unwrap();
        // It went with the cable.
        let _ = ip(&["-n", &self.names[0], "route", "replace", "224.0.0.0/4", "dev", "cable"]);
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = ip(&["netns", "delete", name]);
        }
    }
}

pub(super) fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).output().map_err(|error| format!("`ip` (iproute2): {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("`ip {}`: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim())),
    }
}
