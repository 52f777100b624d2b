//! Why `/dev/kvm` does not open: what this host's files tell.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::reason::{Absence, Denial};

/// The modules that make a KVM.
const MODULES: [&str; 3] = ["kvm_intel", "kvm_amd", "kvm_pvm"];
/// Vendors of `/proc/cpuinfo`, the module for their processors, and the flag it needs.
const VENDORS: &[(&str, &str, &str)] = &[
    ("GenuineIntel", "kvm_intel", "vmx"),
    ("CentaurHauls", "kvm_intel", "vmx"),
    ("  Shanghai  ", "kvm_intel", "vmx"),
    ("AuthenticAMD", "kvm_amd", "svm"),
    ("HygonGenuine", "kvm_amd", "svm"),
];
/// Permission bits of a node: its group may read and write.
const GROUP: u32 = 0o060;
/// ... and everybody.
const OTHERS: u32 = 0o006;

/// Why no KVM answers.
pub(super) fn absence() -> Absence {
    let mut modules = MODULES.into_iter();
    let loaded = modules.find(|name| Path::new("/sys/module").join(name).exists());
    absence_of(&read("/proc/cpuinfo"), loaded)
}

/// Why this user may not open the node.
pub(super) fn denial(node: &str) -> Denial {
    let node = fs::metadata(node).map_or(Node::default(), |found| Node {
        mode: found.mode() & 0o777,
        user: found.uid(),
        group: found.gid(),
    });
    denial_of(
        node,
        &read("/proc/self/status"),
        &read("/etc/passwd"),
        &read("/etc/group"),
    )
}

/// A file's text; one that cannot be read tells nothing.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The value of the first line `key: value`.
fn value<'a>(text: &'a str, key: &str) -> &'a str {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(name, _)| name.trim_end() == key);
    found.map_or("", |(_, value)| value.strip_prefix(' ').unwrap_or(value))
}

fn absence_of(cpuinfo: &str, loaded: Option<&'static str>) -> Absence {
    if let Some(module) = loaded {
        return Absence::Hidden { module };
    }
    let vendor = value(cpuinfo, "vendor_id");
    let Some(&(_, module, flag)) = VENDORS.iter().find(|(name, ..)| *name == vendor) else {
        return Absence::OtherProcessor;
    };
    let has = |flag| {
        value(cpuinfo, "flags")
            .split_whitespace()
            .any(|f| f == flag)
    };
    if has(flag) {
        Absence::NotLoaded { module }
    } else if has("hypervisor") {
        Absence::NotNested { flag }
    } else {
        Absence::Off { flag }
    }
}

/// Whose a node is.
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    mode: u32,
    user: u32,
    group: u32,
}

/// The lines of `/etc/passwd` or `/etc/group`, in fields.
fn entries(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

/// The name of a user or group, or its number.
fn name(text: &str, number: u32) -> String {
    let number = number.to_string();
    let found = entries(text).find(|fields| fields.get(2) == Some(&number.as_str()));
    found.map_or(number, |fields| fields[0].to_string())
}

fn denial_of(node: Node, status: &str, passwd: &str, group: &str) -> Denial {
    // Real, effective, saved, file system.
    let effective = |key| value(status, key).split_whitespace().nth(1)?.parse().ok();
    let me: Option<u32> = effective("Uid");
    let user = me.map_or("?".to_string(), |me| name(passwd, me));
    let mut mine = value(status, "Groups")
        .split_whitespace()
        .filter_map(|number| number.parse().ok())
        .chain(effective("Gid"));
    let in_group = mine.any(|number: u32| number == node.group);
    let may =
        me == Some(0) || node.mode & OTHERS == OTHERS || in_group && node.mode & GROUP == GROUP;
    if may {
        return Denial::Elsewhere { user };
    }
    if node.mode & GROUP != GROUP {
        let owner = name(passwd, node.user);
        let mode = node.mode;
        return Denial::OwnerOnly { user, mode, owner };
    }
    let number = node.group.to_string();
    let listed = entries(group).any(|fields| {
        fields.get(2) == Some(&number.as_str())
            && fields
                .get(3)
                .is_some_and(|all| all.split(',').any(|member| member == user))
    });
    let group = name(group, node.group);
    if listed {
        Denial::OldLogin { user, group }
    } else {
        Denial::NotInGroup { user, group }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_kvm_is_named_by_processor() {
        let cpu = |vendor: &str, flags: &str| {
            let text =
                format!("processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: fpu {flags} sse\n");
            absence_of(&text, None)
        };
        let module = "kvm_amd";
        assert_eq!(cpu("AuthenticAMD", "svm"), Absence::NotLoaded { module });
        assert_eq!(
            cpu("GenuineIntel", "vmx hypervisor"),
            Absence::NotLoaded {
                module: "kvm_intel"
            }
        );
        assert_eq!(cpu("GenuineIntel", "svm"), Absence::Off { flag: "vmx" });
        assert_eq!(
            cpu("AuthenticAMD", "hypervisor"),
            Absence::NotNested { flag: "svm" }
        );
        assert_eq!(cpu("Geode by NSC", "svm"), Absence::OtherProcessor);
        assert_eq!(absence_of("", None), Absence::OtherProcessor);
        let module = "kvm_pvm";
        assert_eq!(absence_of("", Some(module)), Absence::Hidden { module });
    }

    #[test]
    fn a_refusal_names_the_group_to_join() {
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/:/bin/sh\n";
        let group = |members: &str| format!("root:x:0:\nkvm:x:107:{members}\n");
        let status = |groups: &str| {
            format!(
                "Name:\tx\nUid:\t1000\t1000\t1000\t1000\nGid:\t1000\t1000\t1000\t1000\nGroups:\t{groups} \n"
            )
        };
        let node = |mode| Node {
            mode,
            user: 0,
            group: 107,
        };
        let (user, kvm) = ("ann".to_string(), "kvm".to_string());
        let denied = |mode, groups: &str, members: &str| {
            denial_of(node(mode), &status(groups), passwd, &group(members))
        };
        assert_eq!(
            denied(0o660, "1000 27", ""),
            Denial::NotInGroup {
                user: user.clone(),
                group: kvm.clone()
            }
        );
        assert_eq!(
            denied(0o660, "1000", "bob,ann"),
            Denial::OldLogin {
                user: user.clone(),
                group: kvm
            }
        );
        let owner = "root".to_string();
        assert_eq!(
            denied(0o600, "107", ""),
            Denial::OwnerOnly {
                user: user.clone(),
                mode: 0o600,
                owner
            }
        );
        assert_eq!(
            denied(0o660, "107", ""),
            Denial::Elsewhere { user: user.clone() }
        );
        assert_eq!(denied(0o666, "", ""), Denial::Elsewhere { user });
        let unknown = denial_of(node(0o660), "", "", "");
        assert!(unknown.to_string().contains("group 107"), "{unknown}");
    }
}
