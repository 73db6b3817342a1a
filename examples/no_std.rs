//! A model on a device without an operating system and without a heap: from the bytes of a GGUF file
//! to logits, with `teff-kernels` and `teff-graph` alone.
//!
//! ```text
//! cargo run --example no_std
//! ```
//!
//! The module [`device`] is such a program, in three steps that `Model::open` does elsewhere:
//!
//! 1. **Names and roles**: the file's metadata become a `Spec`, whose slots are the tensors that the
//!    model needs; the family knows the name of each in the file.
//! 2. **Weights**: a table of tensors in the order of the slots, used where they lie in the file.
//! 3. **Planning on the device**: the plan goes into arrays that the program has, and says how many
//!    bytes of memory it needs before any is used.
//!
//! `examples/bare_metal` goes further: its plan was made on a computer, so that the firmware has no
//! planner and no file reader.
#![no_std]

extern crate std; // for the host below: the device has none of it

mod device {
    use core::fmt::{self, Write};
    use core::str;

    use teff_graph::family;
    use teff_graph::gguf::Gguf;
    use teff_graph::meta::{Metadata, Value};
    use teff_graph::ops::Op;
    use teff_graph::plan::{Buffer, Capacity, PlanRoom, State, build_into};
    use teff_graph::{
        Executor, List, LogitsFor, Memory, NeverCancel, Options, Outputs, Runner, Segment,
        SpecRoom, Step, Tensor, TensorId, TensorLocation,
    };
    use teff_kernels::{Format, KvFormat, Scalar};

    /// Layers that the arrays below have room for.
    const LAYERS: usize = 4;
    /// Tensors of these layers, and of the model around them.
    const TENSORS: usize = 20 * LAYERS + 8;
    /// Bytes for all intermediate results, the sequence's cache and the one thread.
    const MEMORY: usize = 256 * 1024;

    /// Memory that a linker script would place: nothing else is taken while the model runs.
    #[repr(C, align(64))]
    pub(super) struct Room {
        memory: [u8; MEMORY],
        spec: SpecRoom,
        ops: [Op; 44 * LAYERS + 20],
        buffers: [Buffer; 30 * LAYERS + 18],
        states: [State; LAYERS],
    }

    impl Room {
        pub(super) const EMPTY: Room = Room {
            memory: [0; MEMORY],
            spec: SpecRoom::new(),
            ops: [Op::Barrier; 44 * LAYERS + 20],
            buffers: [Buffer::EMPTY; 30 * LAYERS + 18],
            states: [State::EMPTY; LAYERS],
        };
    }

    /// Reason why there are no logits. A program with room for it prints the errors themselves.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(super) enum Failure {
        /// The bytes are no GGUF file.
        File,
        /// No family has this architecture, or its hyper-parameters are not supported.
        Model,
        /// More layers or tensors than there is room for.
        Layers,
        /// A tensor is missing, or has another shape, or can't be used in place.
        Tensor(TensorId),
        /// No plan can be made with these options.
        Plan,
        /// The model needs this many bytes of memory.
        Memory(usize),
        /// A step failed.
        Step,
    }

    /// Text in a fixed array: the name of a tensor.
    #[derive(Default)]
    struct Name {
        bytes: [u8; 32],
        len: usize,
    }

    impl Write for Name {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            let to = self.bytes.get_mut(self.len..self.len + s.len()).ok_or(fmt::Error)?;
            to.copy_from_slice(s.as_bytes());
            self.len += s.len();
            Ok(())
        }
    }

    /// Calls `each` with the logits after every token. `file` is aligned to at least 4 bytes.
    pub(super) fn run(
        file: &[u8],
        tokens: &[u32],
        room: &mut Room,
        mut each: impl FnMut(&[f32]),
    ) -> Result<(), Failure> {
        // 1. Names and roles. The reader checks the file and keeps nothing but its extent.
        let gguf = Gguf::parse(file).map_err(|_| Failure::File)?;
        let Some(Value::Str(arch)) = gguf.get("general.architecture") else {
            return Err(Failure::Model);
        };
        let family = family::of_arch(arch).ok_or(Failure::Model)?;
        let spec = (family.from_gguf)(&gguf, &gguf, &mut room.spec).map_err(|_| Failure::Model)?;
        if spec.layers.len() as usize > LAYERS || spec.tensors() > TENSORS {
            return Err(Failure::Layers);
        }

        // 2. Weights: where each tensor lies, and the tensor there.
        let mut locations = [TensorLocation { format: Format::F32, offset: 0 }; TENSORS];
        let mut weights = [Tensor::Vector(&[]); TENSORS];
        for (slot, (location, weight)) in
            spec.slots().zip(locations.iter_mut().zip(weights.iter_mut()))
        {
            let failure = Failure::Tensor(spec.id(slot.role));
            let mut name = Name::default();
            family.gguf_name(slot.role, &mut name).map_err(|_| failure)?;
            let name = str::from_utf8(&name.bytes[..name.len]).map_err(|_| failure)?;
            let found = gguf.tensor(name).ok_or(failure)?;
            if (found.rows(), found.cols()) != (slot.all_rows(), slot.cols) {
                return Err(failure);
            }
            *location = TensorLocation { format: found.format, offset: found.offset };
            *weight = location.tensor(&slot, file).map_err(|_| failure)?;
        }
        let weights = List::Borrowed(&weights[..spec.tensors()]);

        // 3. Planning on the device.
        let options = Options {
            batch: 4,
            logits: 1,
            context: tokens.len(),
            kv: KvFormat::F32,
            outputs: Outputs::Logits,
            pages: 0,
        };
        debug_assert!(Capacity::of(&spec).ops <= room.ops.len());
        let lists =
            PlanRoom { ops: &mut room.ops, buffers: &mut room.buffers, states: &mut room.states };
        let format = |id: TensorId| locations[id.index()].format;
        let plan =
            build_into(&spec, &format, &options, &Scalar, lists).map_err(|_| Failure::Plan)?;
        let needed = plan.memory_requirements;
        let memory = Memory::split(&needed, 1, 1, &mut room.memory)
            .map_err(|_| Failure::Memory(needed.total(1).unwrap_or(usize::MAX)))?;
        let mut runner =
            Runner::new(plan, weights, Scalar, 1, memory).map_err(|_| Failure::Plan)?;

        for token in tokens.chunks(1) {
            let segments = [Segment::new(token, LogitsFor::Last)];
            let step = Step { segments: &segments, cancel: &NeverCancel };
            each(runner.step(&step).map_err(|_| Failure::Step)?);
        }
        Ok(())
    }
}

/// The host that stands in for a device.
mod host {
    use std::boxed::Box;
    use std::error::Error;
    use std::format;

    use super::device::{Failure, Room, run};

    /// Bytes of a file, aligned as weights should be.
    #[repr(C, align(64))]
    struct Aligned<T: ?Sized>(T);

    static FILE: &Aligned<[u8]> = &Aligned(*include_bytes!("bare_metal/model-q8_0.gguf"));

    /// Tokens of the text, and hashes of its logits on every machine.
    pub(super) const LISTED: &str = include_str!("bare_metal/logits.fnv");

    /// The model's file.
    pub(super) fn file() -> &'static [u8] {
        &FILE.0
    }

    /// Tokens of the text.
    pub(super) fn tokens() -> impl Iterator<Item = u32> {
        let line = LISTED.lines().find_map(|l| l.strip_prefix("tokens ")).unwrap_or_default();
        line.split(',').filter_map(|t| t.parse().ok())
    }

    /// FNV-1a of 64 bits over little-endian f32, to go on from.
    pub(super) fn fnv(hash: u64, logits: &[f32]) -> u64 {
        let bytes = logits.iter().flat_map(|x| x.to_le_bytes());
        bytes.fold(hash, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
    }

    /// Start of [`fnv`].
    pub(super) const FNV: u64 = 0xcbf2_9ce4_8422_2325;

    /// Hash of the logits that the device computes.
    pub(super) fn device_hash(file: &[u8], tokens: &[u32]) -> Result<u64, Failure> {
        let mut room = Box::new(Room::EMPTY);
        let mut hash = FNV;
        run(file, tokens, &mut room, |logits| hash = fnv(hash, logits))?;
        Ok(hash)
    }

    pub(super) fn main() -> Result<(), Box<dyn Error>> {
        let tokens: std::vec::Vec<u32> = tokens().collect();
        let hash = device_hash(file(), &tokens).map_err(|e| format!("the device failed: {e:?}"))?;
        std::println!("{} tokens, logits {hash:016x}", tokens.len());
        Ok(())
    }
}

fn main() -> Result<(), std::boxed::Box<dyn std::error::Error>> {
    host::main()
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::vec::Vec;

    use teff::{LoadOptions, LogitsFor, Model, SessionOptions};

    use super::device::Failure;
    use super::host::{FNV, LISTED, device_hash, file, fnv, tokens};

    /// The runtime's logits for the same tokens.
    fn runtime_hash(tokens: &[u32]) -> u64 {
        let model = Model::from_bytes(file(), &LoadOptions::default()).unwrap();
        let options = SessionOptions::default().with_batch(8).with_logits(8).with_threads(2);
        let mut session = model.session(&options).unwrap();
        tokens
            .chunks(8)
            .fold(FNV, |hash, part| fnv(hash, session.eval(part, LogitsFor::All).unwrap()))
    }

    #[test]
    fn the_device_computes_the_bits_of_the_runtime() {
        if cfg!(target_endian = "big") {
            std::println!("skipped: vectors of a GGUF file can't be used in place here");
            return;
        }
        let tokens: Vec<u32> = tokens().collect();
        let hash = device_hash(file(), &tokens).unwrap();
        assert_eq!(hash, runtime_hash(&tokens));
        assert!(LISTED.lines().any(|l| l == format!("model-q8_0.gguf f32 {hash:016x}")));
    }

    #[test]
    fn what_the_device_lacks_is_an_error() {
        if cfg!(target_endian = "big") {
            std::println!("skipped: vectors of a GGUF file can't be used in place here");
            return;
        }
        assert_eq!(device_hash(&file()[1..], &[1]), Err(Failure::File));
        // A longer context than there is memory for.
        let long: Vec<u32> = (0..255).collect();
        assert!(matches!(device_hash(file(), &long), Err(Failure::Memory(n)) if n > 256 * 1024));
        assert_eq!(device_hash(file(), &[1_000_000]), Err(Failure::Step));
    }
}
