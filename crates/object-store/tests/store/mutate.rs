//! Runs fuzz targets on mutations of valid input.

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

/// A change to valid input.
#[derive(Debug, Clone)]
enum Mutation {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, u8),
    Repeat(Index, u8),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (at(), prop::collection::vec(any::<u8>(), 1..8)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (at(), any::<u8>()).prop_map(|(at, count)| Mutation::Remove(at, count)),
        (at(), any::<u8>()).prop_map(|(at, count)| Mutation::Repeat(at, count)),
    ]
}

fn mutate(mut data: Vec<u8>, mutations: &[Mutation]) -> Vec<u8> {
    for mutation in mutations {
        if data.is_empty() {
            data.push(0);
        }
        let span =
            |at: &Index, count: u8, len| (at.index(len), (at.index(len) + usize::from(count)).min(len));
        match mutation {
            Mutation::Set(at, byte) => {
                let at = at.index(data.len());
                data[at] = *byte;
            }
            Mutation::Insert(at, bytes) => {
                let at = at.index(data.len());
                data.splice(at..at, bytes.iter().copied());
            }
            Mutation::Remove(at, count) => {
                let (from, to) = span(at, *count, data.len());
                data.drain(from..to);
            }
            Mutation::Repeat(at, count) => {
                let (from, to) = span(at, *count, data.len());
                data.extend_from_within(from..to);
            }
        }
    }
    data
}

/// Runs a target on mutations of its seeds. `BLUEGREEN_FUZZ` is the number of cases.
pub fn run(target: fn(&[u8]), seeds: &[Vec<u8>]) {
    let cases = std::env::var("BLUEGREEN_FUZZ").ok().and_then(|cases| cases.parse().ok());
    run_with(target, seeds, TestRunner::new(config_of(cases.unwrap_or(4000))));
}

pub fn config_of(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

pub fn run_with(target: fn(&[u8]), seeds: &[Vec<u8>], mut runner: TestRunner) {
    for seed in seeds {
        target(seed);
    }
    let input = (prop::sample::select(seeds.to_vec()), prop::collection::vec(mutation(), 0..6))
        .prop_map(|(seed, mutations)| mutate(seed, &mutations));
    runner
        .run(&input, |data| {
            target(&data);
            Ok(())
        })
        .unwrap();
}
