//! Shards: each item in exactly one of them, in order, pulled as it is wanted.

use std::cell::Cell;

use batch_executor::{BatchExecutor, ConfigError, Shard};
use proptest::prelude::*;

use crate::common::{collecting, ran_to_its_end, settings, within_a_minute};

fn shard(index: usize, count: usize) -> Shard {
    Shard::new(index, count).expect("it exists")
}

proptest! {
    #[test]
    fn the_shards_of_any_count_share_the_items_out_exactly(
        items in prop::collection::vec(any::<u16>(), 0..200),
        count in prop_oneof![1..=12_usize, 1..=300_usize, Just(usize::MAX)],
    ) {
        let shards = (0..count.min(400)).map(|index| shard(index, count));
        let mut all: Vec<(usize, u16)> = shards.flat_map(|shard| {
            let mine: Vec<(usize, u16)> = shard.select(items.iter().copied()).collect();
            assert!(mine.is_sorted_by_key(|(index, _)| *index), "{shard} is out of order");
            assert!(mine.iter().all(|(index, _)| index % count == shard.index()), "{shard} has what is not its own");
            mine
        }).collect();
        all.sort_unstable();
        prop_assert_eq!(all, items.into_iter().enumerate().collect::<Vec<_>>());
    }

    #[test]
    fn a_shard_and_its_text_are_one(count in 1..=usize::MAX, index in any::<prop::sample::Index>()) {
        let shard = shard(index.index(count), count);
        prop_assert_eq!(shard.to_string(), format!("{}/{}", shard.index(), shard.count()));
        prop_assert_eq!(shard.to_string().parse(), Ok(shard));
    }

    #[test]
    fn any_text_is_a_shard_or_refused(text in "[0-9/+ -]{0,8}") {
        match text.parse::<Shard>() {
            Ok(shard) => prop_assert!(shard.index() < shard.count(), "{} is {:?}", text, shard),
            Err(error) => prop_assert!(error.to_string().contains("shard"), "{}", error),
        }
    }
}

#[test]
fn the_first_shard_is_0() {
    assert_eq!(shard(0, 3).select(["a", "b", "c", "d"]).collect::<Vec<_>>(), [(0, "a"), (3, "d")]);
    assert_eq!("0/3".parse(), Ok(shard(0, 3)));
    assert_eq!((shard(2, 3).index(), shard(2, 3).count()), (2, 3));
}

#[test]
fn the_only_shard_is_everything() {
    assert_eq!(Shard::default(), shard(0, 1));
    assert_eq!(Shard::default().select(5..8).collect::<Vec<_>>(), [(0, 5), (1, 6), (2, 7)]);
}

#[test]
fn more_shards_than_items_leave_some_empty() {
    assert_eq!(shard(2, 5).select(0..3).collect::<Vec<_>>(), [(2, 2)]);
    assert_eq!(shard(3, 5).select(0..3).count(), 0);
    assert_eq!(shard(usize::MAX - 1, usize::MAX).select(0..3).count(), 0);
}

#[test]
fn items_are_pulled_as_they_are_wanted() {
    let pulled = Cell::new(0);
    let mut mine = shard(1, 4).select((0..).inspect(|_| pulled.set(pulled.get() + 1)));
    assert_eq!(pulled.get(), 0);
    assert_eq!(mine.next(), Some((1, 1)));
    assert_eq!(pulled.get(), 2);
    assert_eq!(mine.next(), Some((5, 5)));
    assert_eq!(pulled.get(), 6);
}

#[test]
fn how_many_items_a_shard_has_is_known_beforehand() {
    for (index, items) in [(0, 4), (1, 3), (2, 3)] {
        assert_eq!(shard(index, 3).select(0..10).size_hint(), (items, Some(items)));
    }
}

#[test]
fn batches_of_all_shards_are_the_batch_of_all_items() {
    within_a_minute(|| {
        let square = |&(_, n): &(usize, u64)| if n % 7 == 0 { Err(n) } else { Ok(n * n) };
        let whole = BatchExecutor::builder().stop_on_error(false).build().unwrap();
        let whole = ran_to_its_end(whole.run((0..100).map(|n| n * 3).enumerate(), square));
        for workers in settings() {
            let mut merged: Vec<_> = (0..8)
                .flat_map(|index| {
                    ran_to_its_end(
                        collecting(workers).run(shard(index, 8).select((0..100).map(|n| n * 3)), square),
                    )
                })
                .map(|item| (item.item, item.outcome.ok()))
                .collect();
            merged.sort_unstable();
            let whole = whole.iter().map(|item| (*item.item, item.outcome.as_ref().ok().copied()));
            assert_eq!(merged, whole.collect::<Vec<_>>(), "{workers:?}");
        }
    });
}

#[test]
fn a_shard_that_does_not_exist_is_refused() {
    let refused = |index, count| Shard::new(index, count).unwrap_err();
    assert_eq!(refused(0, 0), ConfigError::ZeroShards);
    assert_eq!(refused(0, 0).to_string(), "the shard count is 0; there is at least 1 shard");
    assert_eq!(refused(64, 64), ConfigError::NoSuchShard { index: 64, count: 64 });
    assert_eq!(
        refused(64, 64).to_string(),
        "there is no shard 64/64; shards are counted from 0, the last is 63/64"
    );
    assert!(Shard::new(63, 64).is_ok());
}

#[test]
fn a_text_that_is_no_shard_is_refused_and_shown() {
    for text in
        ["", "/", "3", "3/", "/64", "3/64/2", "3 / 64", "+3/64", "-3/64", "3 of 64", "3/0x40", "3\n/64"]
    {
        let error = text.parse::<Shard>().unwrap_err();
        assert_eq!(error, ConfigError::ShardText { text: text.to_owned() });
        assert_eq!(
            error.to_string(),
            format!(
                "{text:?} is no shard; it is INDEX/COUNT, such as 0/64 for the first and 63/64 for the last of 64"
            )
        );
    }
    assert_eq!("0/0".parse::<Shard>(), Err(ConfigError::ZeroShards));
    assert_eq!("64/64".parse::<Shard>(), Err(ConfigError::NoSuchShard { index: 64, count: 64 }));
    assert_eq!("03/064".parse::<Shard>(), Ok(shard(3, 64)));
}
