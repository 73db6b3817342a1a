//! The crew of rayon's threads fulfils the same contract as the pool.
#![cfg(feature = "rayon")]

use rayon::{ThreadPool, ThreadPoolBuilder};
use std::panic;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use teff_graph::Broken;
use teff_runtime::pool::{Crew, PoolError};
use teff_runtime::rayon_team::RayonCrew;

fn rayon_pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

fn phases(crew: &mut RayonCrew<'_>) {
    let size = crew.size();
    let cells: Vec<AtomicU64> = (0..size).map(|_| AtomicU64::new(0)).collect();
    let wrong = AtomicUsize::new(0);
    for _ in 0..20 {
        crew.run(&|team| {
            assert_eq!(team.size(), size);
            for phase in 1..5 {
                cells[team.rank()].store(phase, Ordering::Relaxed);
                team.barrier().unwrap();
                let sum: u64 = cells.iter().map(|c| c.load(Ordering::Relaxed)).sum();
                if sum != phase * size as u64 {
                    wrong.fetch_add(1, Ordering::Relaxed);
                }
                team.barrier().unwrap();
            }
        })
        .unwrap();
    }
    assert_eq!(wrong.into_inner(), 0);
}

#[test]
fn sums_over_phases_from_outside_and_inside() {
    for threads in 1..=4 {
        let pool = rayon_pool(threads);
        phases(&mut RayonCrew::new(&pool).unwrap());
        pool.install(|| phases(&mut RayonCrew::new(&pool).unwrap()));
        pool.install(|| {
            let mut crew = RayonCrew::current().unwrap();
            assert_eq!(crew.size(), threads);
            phases(&mut crew);
        });
    }
}

#[test]
fn the_global_pool() {
    let mut crew = RayonCrew::current().unwrap();
    assert_eq!(crew.size(), rayon::current_num_threads());
    phases(&mut crew);
    rayon::scope(|_| phases(&mut crew)); // from one of its own threads
    let other = rayon_pool(2);
    other.install(|| assert!(matches!(crew.run(&|_| ()), Err(PoolError::WrongPool))));
    let mut inner = other.install(|| RayonCrew::current().unwrap());
    assert!(matches!(inner.run(&|_| ()), Err(PoolError::WrongPool)));
    other.install(|| phases(&mut inner));
}

#[test]
fn panics_and_desertion_are_errors_and_the_crew_goes_on() {
    let pool = rayon_pool(3);
    let mut crew = RayonCrew::new(&pool).unwrap();
    for culprit in 0..3 {
        for panics in [true, false] {
            let told = AtomicUsize::new(0);
            let error = crew
                .run(&|team| {
                    team.barrier().unwrap();
                    if team.rank() == culprit {
                        if panics {
                            panic::resume_unwind(Box::new("here"));
                        }
                        return;
                    }
                    if team.barrier() == Err(Broken) {
                        told.fetch_add(1, Ordering::Relaxed);
                    }
                })
                .unwrap_err();
            match error {
                PoolError::Panicked { rank, message } if panics => {
                    assert_eq!((rank, &*message), (culprit, "here"));
                }
                PoolError::Deserted if !panics => {}
                error => panic!("{error:?}"),
            }
            assert_eq!(told.into_inner(), 2);
            phases(&mut crew);
        }
    }
}

#[test]
fn a_second_run_on_the_same_threads_is_refused() {
    let pool = rayon_pool(2);
    let mut crew = RayonCrew::new(&pool).unwrap();
    let second = Mutex::new(RayonCrew::new(&pool).unwrap());
    let refused = AtomicUsize::new(0);
    crew.run(&|_| {
        if matches!(second.lock().unwrap().run(&|_| ()), Err(PoolError::Busy)) {
            refused.fetch_add(1, Ordering::Relaxed);
        }
    })
    .unwrap();
    assert_eq!(refused.into_inner(), 2);
    // Another pool's crew may run in the meantime, and the second one may afterwards.
    let other = rayon_pool(2);
    let mut other = RayonCrew::new(&other).unwrap();
    crew.run(&|team| {
        if team.rank() == 0 {
            assert!(matches!(second.lock().unwrap().run(&|_| ()), Err(PoolError::Busy)));
        }
    })
    .unwrap();
    phases(&mut other);
    phases(&mut second.into_inner().unwrap());
}

#[test]
fn runs_from_many_threads_end_or_are_refused() {
    let pool = rayon_pool(3);
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut crew = RayonCrew::new(&pool).unwrap();
                for _ in 0..50 {
                    match crew.run(&|team| team.barrier().unwrap()) {
                        Ok(()) => drop(done.fetch_add(1, Ordering::Relaxed)),
                        Err(PoolError::Busy) => std::thread::yield_now(),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    assert!(done.into_inner() > 0);
}
