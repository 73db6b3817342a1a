//! The default number of threads.

use super::MAX_THREADS;
use std::path::Path;

/// Largest CPU number that is accepted from the system's files.
const MAX_CPU: usize = 65_535;

/// The default number of threads: the physical cores available to this process, since the two
/// hardware threads of a core share the execution units that a step keeps busy.
///
/// On Linux the cores are counted within the process's affinity mask (`/proc/self/status` and the
/// sibling lists under `/sys/devices/system/cpu`). Elsewhere, or if those can't be read, it is
/// [`std::thread::available_parallelism`], which also caps the count, as it respects cgroup quotas.
/// At least 1, at most [`MAX_THREADS`].
#[must_use]
pub fn available_threads() -> usize {
    let logical = std::thread::available_parallelism().map_or(1, |n| n.get());
    let cores = physical_cores(Path::new("/")).unwrap_or(logical);
    cores.min(logical).clamp(1, MAX_THREADS)
}

/// The number of physical cores within the affinity mask, from the files under `root`.
fn physical_cores(root: &Path) -> Option<usize> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let status = std::fs::read_to_string(root.join("proc/self/status")).ok()?;
    let allowed = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:"))?;
    let mut cores = Vec::new();
    for cpu in cpu_list(allowed)? {
        let file = format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        let siblings = std::fs::read_to_string(root.join(file)).ok()?;
        // The lowest sibling identifies the core, even if the mask doesn't contain it.
        let first = *cpu_list(&siblings)?.first()?;
        if !cores.contains(&first) {
            cores.push(first);
        }
    }
    (!cores.is_empty()).then_some(cores.len())
}

/// Parses the kernel's list format, such as `0-3,8,10-11`; at most [`MAX_CPU`] + 1 numbers.
fn cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high): (usize, usize) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
        if low > high || high > MAX_CPU || cpus.len() + (high - low) > MAX_CPU {
            return None;
        }
        cpus.extend(low..=high);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(cpu_list("0-3,8,10-11\n"), Some(vec![0, 1, 2, 3, 8, 10, 11]));
        assert_eq!(cpu_list(" 5\n"), Some(vec![5]));
        for bad in ["", "x", "3-1", "0-4294967295", "1,,2", "0-18446744073709551615", "-1"] {
            assert_eq!(cpu_list(bad), None, "{bad:?}");
        }
        let many = ["0-60000"; 3].join(",");
        assert_eq!(cpu_list(&many), None);
    }

    #[test]
    fn this_machine_has_some() {
        let n = available_threads();
        assert!((1..=MAX_THREADS).contains(&n));
        assert!(n <= std::thread::available_parallelism().map_or(1, |n| n.get()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn siblings_count_once_and_the_mask_counts() {
        let root = std::env::temp_dir().join(format!("teff-topology-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for cpu in 0..8 {
            let core = cpu % 4; // the numbering of most x86 machines
            let file = format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            write(&file, &format!("{core},{}\n", core + 4));
        }
        let with_mask = |mask: &str| {
            write("proc/self/status", &format!("Name:\tx\nCpus_allowed_list:\t{mask}\n"));
            physical_cores(&root)
        };
        assert_eq!(with_mask("0-7"), Some(4));
        assert_eq!(with_mask("1,5"), Some(1));
        assert_eq!(with_mask("4-6"), Some(3));
        assert_eq!(with_mask("0-8"), None); // no such CPU
        assert_eq!(with_mask("?"), None);
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(physical_cores(&root), None);
    }
}
