use super::*;

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % sides
    }
}

/// Envelopes on the wire: frames, and what is acknowledged.
type Wire = VecDeque<(Vec<u64>, u64)>;

#[derive(Default)]
struct Side {
    sent: Sent<u64>,
    taken: Taken,
    said: u64,
    heard: Vec<u64>,
}

impl Side {
    fn say(&mut self, dice: &mut Dice) {
        if !self.sent.is_full() {
            self.said += 1;
            let bytes = usize::try_from(dice.roll(3 << 20)).unwrap();
            self.sent.push(self.said, bytes);
        }
    }

    fn write(&mut self, dice: &mut Dice, wire: &mut Wire) {
        let frames = self.sent.next(usize::try_from(dice.roll(2 << 20)).unwrap());
        // Whether time has passed is for the dice.
        let tells = !frames.is_empty() || self.taken.is_due() || dice.roll(4) == 0;
        let acknowledged = if tells { self.taken.tell() } else { 0 };
        if !frames.is_empty() || acknowledged > 0 {
            wire.push_back((frames, acknowledged));
        }
    }

    fn read(&mut self, wire: &mut Wire) {
        let Some((frames, acknowledged)) = wire.pop_front() else { return };
        if acknowledged > 0 {
            self.sent.acknowledge(acknowledged).unwrap();
        }
        self.taken.take(frames.len() as u64, 1 << 19);
        self.heard.extend(frames);
    }
}

/// Two sides talk, the wire breaks anywhere in both directions, they resume.
fn talk(seed: u64) {
    let mut dice = Dice(seed);
    let mut sides = [Side::default(), Side::default()];
    let mut wires = [Wire::new(), Wire::new()];
    let (steps, mut breaks) = (4_000, 0);
    for step in 0..steps {
        let (here, there) = if dice.roll(2) == 0 { (0, 1) } else { (1, 0) };
        match dice.roll(60) {
            0..=19 if step < steps / 2 => sides[here].say(&mut dice),
            0..=38 => sides[here].write(&mut dice, &mut wires[here]),
            // What is on its way is lost, on each way another part of it.
            39 if step < steps - 1_000 => {
                breaks += 1;
                wires.iter_mut().for_each(Wire::clear);
                let received = [sides[0].taken.resume(), sides[1].taken.resume()];
                sides[1].sent.resume(received[0]).unwrap();
                // The answer to the resumption may be lost too.
                if dice.roll(3) == 0 {
                    let received = sides[0].taken.resume();
                    sides[1].sent.resume(received).unwrap();
                }
                sides[0].sent.resume(received[1]).unwrap();
            }
            _ => sides[there].read(&mut wires[here]),
        }
        assert!(sides.iter().all(|side| side.sent.bytes() < MAX_UNACKNOWLEDGED_BYTES + (3 << 20)));
    }
    while sides.iter().any(|side| !side.sent.is_empty()) {
        for (here, there) in [(0, 1), (1, 0)] {
            sides[here].write(&mut dice, &mut wires[here]);
            sides[there].read(&mut wires[here]);
        }
    }
    assert!(breaks > 5, "{breaks}");
    for (here, there) in [(0, 1), (1, 0)] {
        let said: Vec<u64> = (1..=sides[there].said).collect();
        assert!(said.len() > 20 && sides[here].heard == said, "seed {seed}");
        assert_eq!(sides[there].sent.bytes(), 0);
    }
}

#[test]
fn every_frame_arrives_once_and_in_order_wherever_the_connection_breaks() {
    (0..200).for_each(talk);
}

fn sent(frames: u64) -> Sent<u64> {
    let mut sent = Sent::default();
    (1..=frames).for_each(|frame| sent.push(frame, 10));
    sent
}

#[test]
fn as_many_go_as_fit_and_at_least_one() {
    let mut sent = sent(5);
    assert_eq!(sent.next(25), [1, 2]);
    assert_eq!(sent.next(0), [3]);
    assert!(!sent.is_flushed());
    assert_eq!(sent.next(usize::MAX), [4, 5]);
    assert_eq!(sent.next(usize::MAX), Vec::<u64>::new());
    assert!(sent.is_flushed() && !sent.is_empty());
}

#[test]
fn what_is_acknowledged_is_forgotten_and_the_rest_goes_again() {
    let mut sent = sent(5);
    sent.next(30);
    sent.acknowledge(2).unwrap();
    assert_eq!(sent.bytes(), 30);
    sent.resume(2).unwrap();
    assert_eq!(sent.next(usize::MAX), [3, 4, 5]);
    sent.resume(5).unwrap();
    assert!(sent.is_empty() && sent.bytes() == 0);
}

#[test]
fn numbers_that_cannot_be_are_told_with_what_is_known() {
    let mut sent = sent(5);
    sent.next(30);
    // The other two have not gone.
    assert_eq!(sent.resume(4), Err(Miscount::NeverSent { told: 4, sent: 3 }));
    sent.acknowledge(3).unwrap();
    sent.acknowledge(3).unwrap();
    assert_eq!(sent.resume(2), Err(Miscount::Forgotten { told: 2, acknowledged: 3 }));
    assert_eq!(sent.resume(u64::MAX), Err(Miscount::NeverSent { told: u64::MAX, sent: 3 }));
    assert_eq!(sent.next(usize::MAX), [4, 5]);
}

#[test]
fn a_window_is_full_from_its_bound_on() {
    let mut sent = Sent::default();
    sent.push(1, MAX_UNACKNOWLEDGED_BYTES - 1);
    assert!(!sent.is_full());
    sent.push(2, 1);
    assert!(sent.is_full());
    sent.next(usize::MAX);
    sent.acknowledge(1).unwrap();
    assert!(!sent.is_full());
}

#[test]
fn much_is_acknowledged_at_once_and_little_waits() {
    let mut taken = Taken::default();
    assert_eq!((taken.is_pending(), taken.tell()), (false, 0));
    taken.take(ACKNOWLEDGE_FRAMES - 1, 5);
    assert!(taken.is_pending() && !taken.is_due());
    taken.take(1, 0);
    assert!(taken.is_due());
    assert_eq!(taken.tell(), ACKNOWLEDGE_FRAMES);
    assert!(!taken.is_pending() && !taken.is_due());
    taken.take(1, ACKNOWLEDGE_BYTES);
    assert!(taken.is_due());
    assert_eq!(taken.resume(), ACKNOWLEDGE_FRAMES + 1);
    assert_eq!((taken.is_due(), taken.tell()), (false, 0));
}
