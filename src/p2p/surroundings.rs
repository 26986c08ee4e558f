//! What a node has found in the network so far, and how to say it.

use std::fmt;

/// Whom a node has found in the network so far. As text it says who answers, which is also the reason if the node is
/// alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// Members of the federation that are connected and have told what they know.
    pub members: usize,
    /// Peers on the bootstrap list.
    pub listed: usize,
    /// Those of them that are connected.
    pub listed_connected: usize,
    /// Connected nodes that are in other federations.
    pub elsewhere: usize,
    /// Members that were announced or found on the local network, but can't be reached.
    pub unreached: usize,
    /// Peers that may be members and haven't answered yet.
    pub silent: usize,
    /// Whether the local network is searched.
    pub searches_beside: bool,
    /// Whether there is a secret, which all must have.
    pub has_secret: bool,
}

impl Surroundings {
    /// Whether there was anybody to ask what the federation knows.
    pub fn is_alone(&self) -> bool {
        self.members == 0
    }
}

fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

impl fmt::Display for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.members > 0 {
            return write!(f, "{} connected", count(self.members, "member is", "members are"));
        }
        match (self.listed, self.listed_connected, self.searches_beside) {
            (0, _, true) => write!(f, "no --bootstrap list is given, and nobody answers on the local network")?,
            (0, _, false) => {
                let why = if self.has_secret { "--secret" } else { "--no-mdns" };
                write!(f, "no --bootstrap list is given, and the local network isn't searched ({why})")?;
            }
            (1, 0, _) => write!(f, "the peer on the bootstrap list doesn't answer")?,
            (listed, 0, _) => write!(f, "none of the {listed} peers on the bootstrap list answers")?,
            (1, ..) => write!(f, "the bootstrap node answers")?,
            (listed, connected, _) => write!(f, "{connected} of {listed} peers on the bootstrap list answer")?,
        }
        if self.has_secret && self.listed > 0 && self.listed_connected == 0 {
            write!(f, "; has it the file that --secret names here?")?;
        }
        if self.elsewhere > 0 {
            let nodes = count(self.elsewhere, "node of another federation is", "nodes of other federations are");
            write!(f, "; {nodes} connected: are --federation and --run right?")?;
        }
        if self.unreached > 0 {
            let members = count(self.unreached, "member is", "members are");
            write!(f, "; {members} announced but can't be reached: is a port open on either side?")?;
        }
        if self.silent > 0 {
            write!(f, "; {} answered yet", count(self.silent, "peer hasn't", "peers haven't"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_who_was_asked_and_what_to_look_at() {
        let none = Surroundings::default();
        let listed = Surroundings { listed: 2, ..none };
        let reached = Surroundings { listed: 1, listed_connected: 1, ..none };
        for (surroundings, text) in [
            (none, "no --bootstrap list is given, and the local network isn't searched (--no-mdns)"),
            (
                Surroundings { searches_beside: true, ..none },
                "no --bootstrap list is given, and nobody answers on the local network",
            ),
            (listed, "none of the 2 peers on the bootstrap list answers"),
            (Surroundings { listed: 1, ..none }, "the peer on the bootstrap list doesn't answer"),
            (reached, "the bootstrap node answers"),
            (
                Surroundings { elsewhere: 1, ..reached },
                "the bootstrap node answers; 1 node of another federation is connected: are --federation and --run right?",
            ),
            (
                Surroundings { unreached: 2, ..reached },
                "the bootstrap node answers; 2 members are announced but can't be reached: is a port open on either side?",
            ),
            (
                Surroundings { has_secret: true, ..none },
                "no --bootstrap list is given, and the local network isn't searched (--secret)",
            ),
            (
                Surroundings { has_secret: true, listed: 1, ..none },
                "the peer on the bootstrap list doesn't answer; has it the file that --secret names here?",
            ),
            (
                Surroundings { silent: 1, ..listed },
                "none of the 2 peers on the bootstrap list answers; 1 peer hasn't answered yet",
            ),
            (Surroundings { members: 1, ..listed }, "1 member is connected"),
        ] {
            assert_eq!(surroundings.to_string(), text);
            assert_eq!(surroundings.is_alone(), surroundings.members == 0);
        }
    }
}
