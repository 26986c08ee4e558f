//! Runs a command to its end, its time's, or the node's.

use crate::{node::Stop, printable::printable};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    task::JoinSet,
    time::{sleep, timeout},
};

/// How long a command has to end by itself once it is asked to.
const GRACE: Duration = Duration::from_secs(10);
/// How long what it has said last may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Longest line that is told in one.
const MAX_LINE: usize = 4096;

/// Runs the command in `$1`. A watcher holds the other end of the node's pipe: when the node ends, however that is, or closes
/// it, it kills whatever the command has started and has not ended.
const SCRIPT: &str = r#"exec 3<&0 </dev/null
(read -r _; kill -s KILL 0) <&3 >/dev/null 2>&1 &
exec 3<&-
eval "$1""#;

/// What a command has said.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Spoken {
    /// The last line on its standard error, or else on its standard output.
    pub(super) last: Option<String>,
}

/// How a command has ended.
#[derive(Debug)]
pub(super) enum Ended {
    By(ExitStatus, Spoken),
    TimedOut(Spoken),
    /// A stop was requested.
    Stopped,
}

/// How a status is told.
pub(super) fn how(status: ExitStatus) -> String {
    // A shell says so of what it has run.
    let by_shell = status.code().and_then(|code| code.checked_sub(128)).filter(|signal| (1..=64).contains(signal));
    match (status.signal().or(by_shell), status.code()) {
        (Some(signal), _) => format!("was killed by signal {signal}"),
        (None, Some(code)) => format!("failed with exit code {code}"),
        (None, None) => "failed".to_owned(),
    }
}

/// Runs a command with these variables besides the node's own. What it says is told as it comes.
pub(super) async fn run(
    command: &str,
    variables: &[(&'static str, OsString)],
    limit: Duration,
    stop: &Stop,
) -> io::Result<Ended> {
    if stop.is_requested() {
        return Ok(Ended::Stopped);
    }
    let mut shell = Command::new("sh");
    shell.args(["-c", SCRIPT, "sh", command]).envs(variables.iter().map(|(name, value)| (name, value)));
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let mut child = shell.spawn()?;
    let watched = child.stdin.take();
    let group = child.id().and_then(|id| Pid::from_raw(id as i32));
    let said: [Said; 2] = Default::default();
    let mut readers = JoinSet::new();
    if let Some(pipe) = child.stderr.take() {
        readers.spawn(listen(pipe, said[0].clone()));
    }
    if let Some(pipe) = child.stdout.take() {
        readers.spawn(listen(pipe, said[1].clone()));
    }
    let status = tokio::select! {
        status = child.wait() => Some(status?),
        () = sleep(limit) => None,
        () = stop.requested() => None,
    };
    if status.is_none() {
        end(&mut child, group, &mut readers).await;
    }
    drop(watched);
    // Nothing holds these any more.
    let _ = timeout(LAST_WORDS, async { while readers.join_next().await.is_some() {} }).await;
    let last = said.iter().find_map(|said| said.lock().unwrap_or_else(PoisonError::into_inner).clone());
    let spoken = Spoken { last };
    Ok(match status {
        Some(status) => Ended::By(status, spoken),
        None if stop.is_requested() => Ended::Stopped,
        None => Ended::TimedOut(spoken),
    })
}

/// Asks a command and all that it has started to end, and then makes them.
async fn end(child: &mut Child, group: Option<Pid>, readers: &mut JoinSet<()>) {
    let signal = |signal| group.map(|group| kill_process_group(group, signal));
    signal(Signal::TERM);
    let gone = async {
        let _ = child.wait().await;
        // What it has started holds these.
        while readers.join_next().await.is_some() {}
    };
    let _ = timeout(GRACE, gone).await;
    signal(Signal::KILL);
    let _ = child.wait().await;
}

type Said = Arc<Mutex<Option<String>>>;

/// Tells each line, and remembers the last.
async fn listen(mut pipe: impl AsyncRead + Unpin, last: Said) {
    let (mut buffer, mut line) = (vec![0; MAX_LINE], Vec::new());
    let tell = |line: &mut Vec<u8>| {
        let text = printable(String::from_utf8_lossy(line).trim_end()).to_string();
        line.clear();
        if !text.is_empty() {
            tracing::info!(target: "exec", "{text}");
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        }
    };
    while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
        for &byte in &buffer[..read] {
            if byte == b'\n' || line.len() >= MAX_LINE {
                tell(&mut line);
            }
            if byte != b'\n' {
                line.push(byte);
            }
        }
    }
    tell(&mut line);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::{fs, time::Instant};

    async fn ended(command: &str, limit: Duration, stop: &Stop) -> Ended {
        run(command, &[("EXEC_EPOCH", "7".into())], limit, stop).await.unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn how_a_command_ends_and_what_it_says_last_is_told() {
        for (command, tells, says) in [
            ("echo out; echo err >&2; exit 3", "failed with exit code 3", Some("err")),
            ("echo epoch $EXEC_EPOCH; exit 1", "failed with exit code 1", Some("epoch 7")),
            ("kill -9 $$", "was killed by signal 9", None),
            ("sh -c 'kill -9 $$'", "was killed by signal 9", None),
            ("printf '\\033[2J' >&2; false", "failed with exit code 1", Some("\\u{1b}[2J")),
            ("no-such-program-at-all", "failed with exit code 127", Some("not found")),
        ] {
            let Ended::By(status, Spoken { last }) = ended(command, LONG, &Stop::new()).await else { panic!() };
            assert_eq!(how(status), tells, "{command}");
            let is_said = says.is_none_or(|says| last.as_ref().is_some_and(|last| last.ends_with(says)));
            assert!(is_said, "{command}: {last:?}");
        }
        let Ended::By(status, _) = ended("read -r line || exit 0; exit 1", LONG, &Stop::new()).await else { panic!() };
        assert!(status.success(), "its input is empty");
    }

    /// Whether a process is there, and no zombie.
    fn lives(id: &str) -> bool {
        fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    async fn until_gone(id: &str) {
        let began = Instant::now();
        while lives(id) {
            assert!(began.elapsed() < LONG, "{id} lives");
            sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn whatever_it_has_started_ends_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("id");
        let leaves = format!("sleep 1000 & echo $! > {0}.new; mv {0}.new {0}", file.display());
        // It ends by itself, its time is up, and a stop is requested, which it doesn't want to hear.
        let deaf = format!("trap '' TERM; {leaves}; wait");
        let cases = [(leaves.clone(), LONG), (format!("{leaves}; wait"), Duration::from_millis(500))];
        for (command, limit) in cases {
            let ended = ended(&command, limit, &Stop::new()).await;
            assert!(matches!((&ended, limit), (Ended::By(..), LONG) | (Ended::TimedOut(_), _)), "{ended:?}");
            until_gone(fs::read_to_string(&file).unwrap().trim()).await;
        }
        fs::remove_file(&file).unwrap();
        let stop = Stop::new();
        let stopping = stop.clone();
        let (asked, ended) = tokio::join!(
            async {
                while !file.exists() {
                    sleep(Duration::from_millis(10)).await;
                }
                stopping.request();
                Instant::now()
            },
            ended(&deaf, LONG, &stop)
        );
        assert!(matches!(ended, Ended::Stopped), "{ended:?}");
        assert!(asked.elapsed() >= GRACE);
        until_gone(fs::read_to_string(&file).unwrap().trim()).await;
    }
}
