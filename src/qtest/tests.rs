use super::*;

#[test]
fn lines_come_in_pieces() {
    let mut lines = Lines::default();
    assert!(lines.take(b"in").is_empty());
    let whole = lines.take(b"b 1\noutb\n\nx");
    let expected = [
        Some(b"inb 1".to_vec()),
        Some(b"outb".to_vec()),
        Some(vec![]),
    ];
    assert_eq!(whole, expected);
    let long = vec![b'y'; 1 << 20];
    for _ in 0..40 {
        assert!(lines.take(&long).is_empty());
        assert!(lines.begun.len() <= 2 * MOST_BYTES + 256);
    }
    assert_eq!(lines.take(b"\nz\n"), [None, Some(b"z".to_vec())]);
}

#[test]
fn places() {
    for (given, server) in [
        ("stdio", false),
        ("unix:/a", false),
        ("unix:/a,server", true),
        ("tcp::5,server=on,wait=off", true),
    ] {
        let config = Config::parse(given).expect(given);
        assert_eq!(config.socket.server, server, "{given}");
    }
    for given in ["null", "mon:stdio", "telnet:h:5", "file:/a", "pty", "unix:"] {
        assert!(Config::parse(given).is_err(), "{given}");
    }
}
