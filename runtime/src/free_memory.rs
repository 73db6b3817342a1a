//! Memory that the system has left.

use std::path::Path;

/// Bytes that this process can still allocate without pressing others out of memory, if the system
/// tells.
///
/// On Linux it is `MemAvailable` of `/proc/meminfo`, or what is left of the limit of the process's
/// control group (version 2) or of one around it, if that is less. Elsewhere it is not known.
#[must_use]
pub fn available_memory() -> Option<u64> {
    available(Path::new("/"))
}

/// The same from the files under `root`.
fn available(root: &Path) -> Option<u64> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let system = kibibytes(&read(&root.join("proc/meminfo"))?, "MemAvailable:")?;
    let groups = read(&root.join("proc/self/cgroup")).unwrap_or_default();
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let top = root.join("sys/fs/cgroup");
    let mut left = system;
    for folder in top.join(group.trim_end()).ancestors().take_while(|p| p.starts_with(&top)) {
        let number = |name: &str| read(&folder.join(name))?.trim().parse::<u64>().ok();
        // "max" is no number: there is no limit.
        if let (Some(limit), Some(used)) = (number("memory.max"), number("memory.current")) {
            // Pages of files that were read count as used, and go when others want memory.
            let stat = read(&folder.join("memory.stat")).unwrap_or_default();
            let files = number_after(&stat, "inactive_file ").unwrap_or(0);
            left = left.min(limit.saturating_sub(used.saturating_sub(files)));
        }
    }
    Some(left)
}

/// The number on the line that begins with `key`.
fn number_after(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The number of KiB on the line that begins with `key`, in bytes.
fn kibibytes(text: &str, key: &str) -> Option<u64> {
    number_after(text, key)?.checked_mul(1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_least_of_system_and_groups_is_left() {
        let root = std::env::temp_dir().join(format!("teff-free-{}", std::process::id()));
        let put = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(available(&root), None);
        put("proc/meminfo", "MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable:    5000 kB\n");
        assert_eq!(available(&root), Some(5000 * 1024));
        put("proc/self/cgroup", "1:cpu:/x\n0::/a/b\n");
        put("sys/fs/cgroup/a/b/memory.max", "max\n");
        put("sys/fs/cgroup/a/b/memory.current", "100\n");
        assert_eq!(available(&root), Some(5000 * 1024));
        put("sys/fs/cgroup/a/memory.max", "1000\n");
        put("sys/fs/cgroup/a/memory.current", "700\n");
        assert_eq!(available(&root), Some(300));
        put("sys/fs/cgroup/a/memory.stat", "anon 400\ninactive_file 200\n");
        assert_eq!(available(&root), Some(500));
        put("sys/fs/cgroup/a/b/memory.max", "50\n");
        assert_eq!(available(&root), Some(0));
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn this_system_tells() {
        assert!(available_memory().is_some_and(|bytes| bytes > 0));
    }
}
