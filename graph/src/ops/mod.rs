//! Operations of a plan, with one file for each: its fields, its buffers, its check, its scratch
//! and its arithmetic.
//!
//! An operation is self-contained: it carries its own epsilon, scale, window and activation. To add
//! one, write its file and name it in [`Op`] below; nothing else matches on operations.

mod add_to_streams;
mod attend;
mod convert;
mod correct_streams;
mod delta_conv;
mod delta_gates;
mod delta_rule;
mod embed;
mod end_streams;
mod experts_down;
mod experts_gated;
mod gate_heads;
mod gate_input;
mod gated;
mod layer_inputs;
mod linear;
mod merge;
mod norm;
mod norm_add;
mod predict_streams;
mod project;
mod rope_table;
mod route;
mod routes;
mod scale_heads;
mod select_rows;
mod short_conv;
mod sparse_gate;
mod start_streams;
mod store_heads;
mod stream_products;

use core::ops::Range;

use teff_kernels::Backend;

use crate::TensorId;
use crate::exec::{Stopped, Worker};
use crate::plan::{BufferId, PlanView, StateId, sure};

/// Use of a buffer by an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// Read.
    Read,
    /// Written in full.
    Write,
    /// Read and written, element for element.
    Update,
}

/// Use of a state by an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StateAccess {
    /// Keys and values are read.
    Read,
    /// Keys are written.
    WriteKeys,
    /// Values are written.
    WriteValues,
    /// One bank of a fixed state is read and the other is written.
    Update,
    /// The same for the first of two parts of a fixed state.
    UpdateFirst,
    /// The same for the second part.
    UpdateSecond,
}

/// Result of an operation that chooses experts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    /// Scores of all experts.
    pub(crate) scores: BufferId,
    /// The chosen ones and their weights.
    pub(crate) out: BufferId,
    /// Number of experts that a token takes.
    pub(crate) used: u16,
}

/// Interface of every operation.
trait Operation {
    /// Calls `f` with every buffer that the operation uses.
    fn buffers(&self, f: &mut dyn FnMut(BufferId, Access));

    /// Calls `f` with every state that the operation uses.
    fn states(&self, _f: &mut dyn FnMut(StateId, StateAccess)) {}

    /// Calls `f` with the weights and the inputs of every product.
    fn products(&self, _f: &mut dyn FnMut(TensorId, BufferId)) {}

    /// Calls `f` with every tensor that the operation reads besides the weights of its products, such
    /// as biases, norms and embeddings.
    fn others(&self, _f: &mut dyn FnMut(TensorId)) {}

    /// Input and output that may have the same storage.
    fn in_place(&self) -> Option<(BufferId, BufferId)> {
        None
    }

    /// The choice of experts that the operation makes; `None` if it makes none.
    fn choice(&self) -> Option<Choice> {
        None
    }

    /// Checks buffers, tensors and states; `None` if one does not exist or doesn't fit.
    fn check(&self, plan: &PlanView<'_>) -> Option<()>;

    /// Floats that a worker needs, apart from the scratch of the backend's products; `None` on
    /// overflow. Called for operations that were checked or made by the builder.
    fn scratch(&self, _plan: &PlanView<'_>) -> Option<usize> {
        Some(0)
    }

    /// Number of items of the operation in this step: parts that workers compute in any order, at
    /// the same time. Known without reading buffers.
    fn items<B: Backend>(&self, worker: &Worker<'_, '_, '_, B>) -> usize;

    /// Number of items that are worth a claim by one of `size` workers, and most that a claim should
    /// have; see [`crate::Work`].
    fn grain<B: Backend>(&self, _: &Worker<'_, '_, '_, B>, _size: usize) -> (usize, usize) {
        (1, usize::MAX)
    }

    /// Computes items of the operation, which this worker has claimed.
    fn run<B: Backend>(
        &self,
        worker: &Worker<'_, '_, '_, B>,
        items: Range<usize>,
    ) -> Result<(), Stopped>;
}

/// The kinds of all operations, as [`kinds`] gives them.
pub const ALL_KINDS: u64 = u64::MAX;

/// The kinds of operations that occur, a bit for each.
///
/// A program whose plan is a `static` knows them when it is built, and links no others:
/// [`Runner::with_kinds`](crate::Runner::with_kinds).
#[must_use]
pub const fn kinds(ops: &[Op]) -> u64 {
    let (mut kinds, mut i) = (0, 0);
    while i < ops.len() {
        kinds |= ops[i].kind();
        i += 1;
    }
    kinds
}

macro_rules! operations {
    ($($(#[$doc:meta])* $file:ident::$op:ident,)*) => {
        $(pub use $file::$op;)*

        /// The order of the bits of kinds.
        enum Kind {
            $($op,)*
        }

        /// One operation; the workers of the team share its items.
        #[derive(Clone, Copy, PartialEq, Debug)]
        #[non_exhaustive]
        pub enum Op {
            /// Barrier for all workers.
            Barrier,
            $($(#[$doc])* $op($op),)*
        }

        impl Op {
            /// The bit of its kind; 0 of a barrier.
            const fn kind(&self) -> u64 {
                match self {
                    Op::Barrier => 0,
                    $(Op::$op(_) => 1 << Kind::$op as u32,)*
                }
            }

            /// Calls `f` with every buffer that the operation uses.
            pub(crate) fn buffers(&self, f: &mut dyn FnMut(BufferId, Access)) {
                match self {
                    Op::Barrier => {}
                    $(Op::$op(op) => Operation::buffers(op, f),)*
                }
            }

            /// Calls `f` with every state that the operation uses.
            pub(crate) fn states(&self, f: &mut dyn FnMut(StateId, StateAccess)) {
                match self {
                    Op::Barrier => {}
                    $(Op::$op(op) => Operation::states(op, f),)*
                }
            }

            /// Name of its kind, such as `Linear`.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    Op::Barrier => "Barrier",
                    $(Op::$op(_) => stringify!($op),)*
                }
            }

            /// Calls `f` with the weights and the inputs of every product, in the order of its fields;
            /// with a tensor twice if two products have their weights in it.
            pub fn products(&self, f: &mut dyn FnMut(TensorId, BufferId)) {
                match self {
                    Op::Barrier => {}
                    $(Op::$op(op) => Operation::products(op, f),)*
                }
            }

            /// Calls `f` with every tensor that the operation reads: the weights of its products first,
            /// then biases, norms, embeddings and the like.
            pub fn tensors(&self, f: &mut dyn FnMut(TensorId)) {
                match self {
                    Op::Barrier => {}
                    $(Op::$op(op) => {
                        Operation::products(op, &mut |w, _| f(w));
                        Operation::others(op, f);
                    })*
                }
            }

            /// Input and output that may have the same storage.
            pub(crate) fn in_place(&self) -> Option<(BufferId, BufferId)> {
                match self {
                    Op::Barrier => None,
                    $(Op::$op(op) => Operation::in_place(op),)*
                }
            }

            /// The choice of experts that the operation makes; `None` if it makes none.
            pub(crate) fn choice(&self) -> Option<Choice> {
                match self {
                    Op::Barrier => None,
                    $(Op::$op(op) => Operation::choice(op),)*
                }
            }

            /// Checks the operation against the plan; `None` where it is of no kind in `KINDS`.
            pub(crate) fn check<const KINDS: u64>(&self, plan: &PlanView<'_>) -> Option<()> {
                match self {
                    Op::Barrier => Some(()),
                    $(Op::$op(op) if KINDS & 1 << Kind::$op as u32 != 0 => {
                        Operation::check(op, plan)
                    })*
                    _ => None,
                }
            }

            /// Floats that a worker needs for it; `None` as [`Op::check`] has it.
            pub(crate) fn scratch<const KINDS: u64>(&self, plan: &PlanView<'_>) -> Option<usize> {
                match self {
                    Op::Barrier => Some(0),
                    $(Op::$op(op) if KINDS & 1 << Kind::$op as u32 != 0 => {
                        Operation::scratch(op, plan)
                    })*
                    _ => None,
                }
            }

            /// Number of its items in this step; 0 where it is of no kind in `KINDS`.
            pub(crate) fn items<B: Backend, const KINDS: u64>(
                &self,
                worker: &Worker<'_, '_, '_, B>,
            ) -> usize {
                match self {
                    $(Op::$op(op) if KINDS & 1 << Kind::$op as u32 != 0 => {
                        Operation::items(op, worker)
                    })*
                    _ => 0,
                }
            }

            /// Number of items that are worth a claim by one of `size` workers, and most that a
            /// claim should have.
            pub(crate) fn grain<B: Backend, const KINDS: u64>(
                &self,
                worker: &Worker<'_, '_, '_, B>,
                size: usize,
            ) -> (usize, usize) {
                match self {
                    $(Op::$op(op) if KINDS & 1 << Kind::$op as u32 != 0 => {
                        Operation::grain(op, worker, size)
                    })*
                    _ => (1, usize::MAX),
                }
            }

            /// Computes items that the worker has claimed. Its kind is one in `KINDS`.
            pub(crate) fn run<B: Backend, const KINDS: u64>(
                &self,
                worker: &Worker<'_, '_, '_, B>,
                items: Range<usize>,
            ) -> Result<(), Stopped> {
                match self {
                    Op::Barrier => Ok(()),
                    $(Op::$op(op) if KINDS & 1 << Kind::$op as u32 != 0 => {
                        Operation::run(op, worker, items)
                    })*
                    _ => Err(Stopped),
                }
            }
        }
    };
}

operations! {
    /// Lookup of rows of the embedding.
    embed::Embed,
    /// Cosines and sines of positions.
    rope_table::RopeTable,
    /// Norm.
    norm::Norm,
    /// Norm, added to the residual stream.
    norm_add::NormAdd,
    /// Matrix product.
    linear::Linear,
    /// Matrix product for queries, keys or values.
    project::Project,
    /// Two products, combined by an activation.
    gated::Gated,
    /// Attention.
    attend::Attend,
    /// Gated short convolution.
    short_conv::ShortConv,
    /// Choice of experts.
    route::Route,
    /// First two products of the chosen experts, combined by an activation.
    experts_gated::ExpertsGated,
    /// Last product of the chosen experts, and their weighted sum.
    experts_down::ExpertsDown,
    /// Selection of the rows whose outputs are wanted.
    select_rows::SelectRows,
    /// Conversion of inputs that no norm precedes.
    convert::Convert,
    /// Rotation of queries or keys that were computed before, and their storage.
    store_heads::StoreHeads,
    /// Gates of whole heads.
    scale_heads::ScaleHeads,
    /// Inputs of all layers.
    layer_inputs::LayerInputs,
    /// Gate of a layer's own inputs.
    gate_input::GateInput,
    /// Residual streams at the beginning.
    start_streams::StartStreams,
    /// Products with a stack of matrices, one for each residual stream.
    stream_products::StreamProducts,
    /// Prediction of the residual streams after a layer.
    predict_streams::PredictStreams,
    /// Correction of predicted residual streams.
    correct_streams::CorrectStreams,
    /// Norm, added to residual streams.
    add_to_streams::AddToStreams,
    /// Mean of the residual streams at the end.
    end_streams::EndStreams,
    /// Scaled sum of two buffers.
    merge::Merge,
    /// Sparse gate of two products.
    sparse_gate::SparseGate,
    /// Convolution of linear attention.
    delta_conv::DeltaConv,
    /// Decay and strength of the states of linear attention.
    delta_gates::DeltaGates,
    /// Gated delta rule.
    delta_rule::DeltaRule,
    /// Gate of the outputs of heads.
    gate_heads::GateHeads,
}

pub use delta_conv::DeltaHeads;
pub use linear::Output;
pub use project::QkvPart;

const _: () = assert!(size_of::<Op>() <= 40);
