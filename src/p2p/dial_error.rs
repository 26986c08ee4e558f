//! Why a peer couldn't be dialled, in one line, and what to do about it.

use super::addresses::without_peer;
use libp2p::swarm::DialError;
use std::error::Error;

/// A failed dial in one line: the address that was tried, and the innermost reason.
pub(super) fn reason(error: &DialError) -> String {
    let DialError::Transport(tried) = error else {
        return error.to_string().replace('\n', " ");
    };
    let tried = tried.iter().map(|(address, error)| format!("{}: {}", without_peer(address), innermost(error)));
    tried.collect::<Vec<_>>().join("; ")
}

/// What the last of the causes says.
fn innermost(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    text.replace('\n', " ")
}

/// The innermost reasons of a failed dial, and what to do about the first.
pub(super) fn explained(error: &DialError) -> (String, &'static str) {
    match error {
        DialError::Transport(tried) => {
            let reasons: Vec<String> = tried.iter().map(|(_, error)| innermost(error)).collect();
            let remedy = reasons.first().map_or("", |reason| remedy(reason));
            (reasons.join("; "), remedy)
        }
        DialError::WrongPeerId { obtained, .. } => (
            format!("{obtained} answers there"),
            "if that is the node you mean, write its peer id into the list; it has one for each home",
        ),
        DialError::LocalPeerId { .. } => ("that is this node itself".to_owned(), "leave it out"),
        error => (error.to_string().replace('\n', " "), ""),
    }
}

/// What to do, by what the transports, the resolver and the first bytes of a connection say.
fn remedy(reason: &str) -> &'static str {
    let reason = reason.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    if says(&["refused"]) {
        "nothing listens on that port there: is it the right one, and does the node run?"
    } else if says(&["secret"]) {
        "both ends need the same file in --secret, or none"
    } else if says(&["timed out", "timeout"]) {
        "nobody answers: is the address right, the machine on, and the port open in the firewalls on both sides (UDP for \
         QUIC)?"
    } else if says(&["unreachable", "no route"]) {
        "this machine has no way there: is it connected, with that version of IP?"
    } else if says(&["resolve", "lookup", "record", "nxdomain", "dns"]) {
        "the name can't be looked up: is it spelled right, and does this machine's resolver answer?"
    } else {
        "is it a node of Peerfold that listens there?"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_remedy() {
        for (reason, part) in [
            ("Connection refused (os error 111)", "nothing listens"),
            ("it has another secret than the file that --secret names here, or none", "--secret"),
            ("Timeout has been reached", "firewalls"),
            ("Handshake with the remote timed out.", "firewalls"),
            ("Network is unreachable (os error 101)", "no way there"),
            ("No route to host (os error 113)", "no way there"),
            ("no records found for Query { name: Name(\"nowhere.invalid.\") }", "looked up"),
            ("unexpected end of file", "a node of Peerfold"),
        ] {
            assert!(remedy(reason).contains(part), "{reason}: {}", remedy(reason));
        }
    }
}
