//! Inputs that decoders were mended for, each with the target's name. Those that follow from keys and hashes are among
//! the seeds.

pub(super) const ALL: &[(&str, &[u8])] = &[
    ("peer-address", b"/nothing\n\x1b[31m/x"),
    ("peer-address", b"/dns/a\x1b[31m/tcp/1"),
    ("peer-list", b"peers = []\n\"\\u001b[31m\" = 1"),
    ("config", b"\"\\u001b[31m\" = 1"),
    ("config", b"\x07lr = = 1"),
    ("setting", b"\x02a = \"\"\"x\n\x09y\"\"\""),
    ("start", b"{\"origin\":\"\\u001b[31m\"}"),
    ("secret-file", b"peerfold secret \x1b[31m: x\n"),
    ("invitation-content", b"\x00\x10\"\\u001b[31m\" = 1"),
];
