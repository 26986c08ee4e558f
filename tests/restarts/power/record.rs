//! What a process did to its files, as `strace` records it: one call after the other, with the moments at which it was
//! entered and at which it returned.

use std::{collections::HashMap, env, path::Path, process::Command};

/// All calls by which a file or a directory can change, or by which a descriptor becomes another's. Those that are
/// not on every machine are marked so.
const CALLS: &str = "?open,openat,?openat2,?creat,close,lseek,dup,?dup2,dup3,fcntl,write,writev,pwrite64,pwritev,pwritev2,\
                     ftruncate,truncate,fallocate,fsync,fdatasync,sync,syncfs,sync_file_range,mmap,?rename,renameat,\
                     renameat2,?link,linkat,?symlink,symlinkat,?unlink,unlinkat,?rmdir,?mkdir,mkdirat,sendfile,\
                     copy_file_range,splice,io_uring_setup";

/// A call that succeeded.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) name: String,
    /// As they are written, strings as [`bytes`] reads them.
    pub(super) args: Vec<String>,
    pub(super) result: i64,
    /// Lines of the record.
    pub(super) entered: usize,
    pub(super) returned: usize,
}

/// Whether processes can be watched here; says on the terminal if not.
pub(super) fn can_be_made() -> bool {
    let watched = Command::new("strace").args(["-f", "--seccomp-bpf", "-o", "/dev/null", "true"]).output();
    match watched {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned();
            println!("skipped: strace can't watch a process here ({why}), so no power cut is tried");
            false
        }
        Err(_) => {
            println!("skipped: there is no strace, by which power cuts are tried; .ci/install-tools installs it");
            false
        }
    }
}

/// The same command, watched.
pub(super) fn watched(command: &Command, record: &Path) -> Command {
    let mut watched = Command::new("strace");
    watched.args(["-f", "-qq", "--seccomp-bpf", "-xx", "-s", "67108864", "-e", "signal=none", "-o"]).arg(record);
    watched.args(["-e", &format!("trace={CALLS}")]);
    watched.arg(command.get_program()).args(command.get_args());
    watched.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    watched.env("PATH", env::var_os("PATH").unwrap_or_default());
    if let Some(dir) = command.get_current_dir() {
        watched.current_dir(dir);
    }
    watched
}

/// The calls of a record, in the order in which they returned.
pub(super) fn read(record: &str) -> Vec<Call> {
    let (mut calls, mut under_way) = (Vec::new(), HashMap::<&str, (usize, String)>::new());
    for (line, text) in record.lines().enumerate() {
        let (task, text) = text.split_once(' ').unwrap();
        let text = text.trim_start();
        if text.starts_with("+++") || text.starts_with("---") {
            continue;
        }
        if let Some(begun) = text.strip_suffix("<unfinished ...>") {
            under_way.insert(task, (line, begun.to_owned()));
            continue;
        }
        let (entered, whole) = match text.strip_prefix("<... ") {
            Some(resumed) => {
                let (line, begun) = under_way.remove(task).unwrap();
                (line, begun + resumed.split_once("resumed>").unwrap().1)
            }
            None => (line, text.to_owned()),
        };
        let (call, result) = whole.rsplit_once(") ").unwrap();
        let result = result.trim_start().strip_prefix("= ").unwrap();
        let result = result.split(' ').next().unwrap();
        let number =
            result.strip_prefix("0x").map_or_else(|| result.parse().ok(), |hex| i64::from_str_radix(hex, 16).ok());
        let Some(result) = number.filter(|&number| number >= 0) else { continue };
        let (name, args) = call.split_once('(').unwrap();
        let args = args.split(", ").map(|arg| arg.trim_end().to_owned()).collect();
        calls.push(Call { name: name.to_owned(), args, result, entered, returned: line });
    }
    calls
}

/// The bytes of a string, or of the strings in a list of buffers.
pub(super) fn bytes(arg: &str) -> Vec<u8> {
    let quoted = arg.split('"').skip(1).step_by(2);
    let hex = |text: &str| -> Vec<u8> {
        text.split("\\x").skip(1).map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
    };
    assert!(!arg.contains("\"..."), "the record is cut short");
    quoted.flat_map(hex).collect()
}
