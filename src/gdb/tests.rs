//! What `-gdb` takes, and what the registers look like.

use super::registers::Layout;
use super::*;

#[test]
fn places() {
    let place = |given: &str| Config::parse(given).map(|c| c.map(|c| c.place));
    let tcp = |host: &str| Some(Place::Tcp(host.into(), 1234));
    assert_eq!(place("tcp::1234").expect("a place"), tcp(""));
    assert_eq!(place("tcp:[::1]:1234").expect("a place"), tcp("::1"));
    assert_eq!(
        place("tcp:localhost:1234,server,nowait").expect("a place"),
        tcp("localhost")
    );
    assert_eq!(
        place("unix:/tmp/gdb,server=on,wait=off").expect("a place"),
        Some(Place::Unix("/tmp/gdb".into()))
    );
    assert_eq!(place("none").expect("none"), None);
    assert_eq!(place("stdio").expect("a place"), Some(Place::Stdio));
    for wrong in [
        "stdout",
        "tcp:1234",
        "tcp::99999",
        "unix:",
        "1234",
        "",
        "unix:/tmp/gdb,wait=on",
        "unix:/tmp/gdb,from=i386",
        "unix:/tmp/gdb,form=i186",
    ] {
        let error = place(wrong).expect_err(wrong).to_string();
        assert!(error.starts_with("-gdb"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let form = Config::parse("tcp::1234,form=i8086").expect("a place");
    assert_eq!(form.and_then(|c| c.form), Some(Form::I8086));
}

/// The numbers scripts made for QEMU's stub know.
#[test]
fn registers_are_numbered_as_qemus() {
    for (form, names) in [
        (
            Form::X86_64,
            [
                "rax 0",
                "rip 16",
                "cs 18",
                "k_gs_base 26",
                "efer 32",
                "st0 33",
                "xmm0 49",
                "mxcsr 65",
            ],
        ),
        (
            Form::I386,
            [
                "ecx 1",
                "eip 8",
                "cs 10",
                "k_gs_base 18",
                "efer 24",
                "st0 25",
                "xmm0 41",
                "mxcsr 49",
            ],
        ),
    ] {
        let description = Layout::new(form).description();
        for name in names {
            let (name, number) = name.split_once(' ').expect("a pair");
            let at = description
                .find(&format!("<reg name=\"{name}\""))
                .expect(name);
            let tag = description[at..].split('>').next().expect("a tag");
            assert!(tag.contains(&format!("regnum=\"{number}\"")), "{tag}");
        }
    }
}
