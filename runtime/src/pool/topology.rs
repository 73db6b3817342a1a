//! The default number of threads, and their limit.

use super::MAX_THREADS;
use core::fmt;
use std::path::Path;

/// Largest CPU number that is accepted from the system's files.
const MAX_CPU: usize = 65_535;

/// Number of CPUs that this process may run on, if the system tells; at least 1.
///
/// It is [`std::thread::available_parallelism`]. On Linux that is the number of CPUs in the affinity
/// mask of the calling thread, or the quota of its control group (version 1 or 2) and of the groups
/// around it if that is less: time per period, rounded down, at least 1. (A group that may run for
/// 150 ms in each 100 ms counts as one CPU: with two threads, both would be halted together for a
/// quarter of the time.) On Windows and macOS it is the number of logical CPUs of the machine.
#[must_use]
pub fn cpu_limit() -> Option<usize> {
    std::thread::available_parallelism().ok().map(Into::into)
}

/// Warning that a pool has fewer threads than were asked for, since the process may not run on as
/// many CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct FewerThreads {
    /// Number of threads asked for.
    pub asked: usize,
    /// Number of threads used: [`cpu_limit`].
    pub used: usize,
}

impl fmt::Display for FewerThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FewerThreads { asked, used } = self;
        let (cpus, are) = if *used == 1 { ("CPU", "is") } else { ("CPUs", "are") };
        write!(
            f,
            "{asked} threads were asked for, but this process may run on {used} {cpus} (affinity, \
             quota): {used} {are} used, unless more are allowed explicitly (oversubscribe)"
        )
    }
}

/// Number of threads for which `asked` stands: the same, or [`cpu_limit`] and a warning if that is
/// less and `oversubscribe` is false.
#[must_use]
pub fn allowed_threads(asked: usize, oversubscribe: bool) -> (usize, Option<FewerThreads>) {
    match cpu_limit() {
        // Numbers that no pool can have are refused by it.
        Some(used) if asked > used && asked <= MAX_THREADS && !oversubscribe => {
            (used, Some(FewerThreads { asked, used }))
        }
        _ => (asked, None),
    }
}

/// The default number of threads: the physical cores available to this process, since the two
/// hardware threads of a core share the execution units that a step keeps busy.
///
/// On Linux the cores are counted within the process's affinity mask (`/proc/self/status` and the
/// sibling lists under `/sys/devices/system/cpu`). Elsewhere, or if those can't be read, it is
/// [`cpu_limit`], which also caps the count. At least 1, at most [`MAX_THREADS`].
#[must_use]
pub fn available_threads() -> usize {
    let logical = cpu_limit().unwrap_or(1);
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
        assert!(n <= cpu_limit().unwrap_or(1));
    }

    #[test]
    fn more_threads_than_cpus_only_if_asked_for() {
        let Some(cpus) = cpu_limit().filter(|&cpus| cpus < MAX_THREADS) else { return };
        assert_eq!(allowed_threads(cpus, false), (cpus, None));
        let (asked, used) = (cpus + 1, cpus);
        let warning = FewerThreads { asked, used };
        assert_eq!(allowed_threads(asked, false), (used, Some(warning)));
        assert!(warning.to_string().starts_with(&format!("{asked} threads were asked for")));
        assert_eq!(allowed_threads(asked, true), (asked, None));
        assert_eq!(allowed_threads(0, false), (0, None));
        assert_eq!(allowed_threads(MAX_THREADS + 1, false), (MAX_THREADS + 1, None));
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
