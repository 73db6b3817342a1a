//! Several residual streams, of which a layer works on one and predicts and corrects the others
//! (AltUp; Baykal et al., 2023), and a residual branch of low rank beside the mixer (LAuReL; Menghani
//! et al., 2024).

use core::f32::consts::FRAC_1_SQRT_2;

use super::{Layer, Mixed, Norm, NormKind, in_range};
use crate::ops::{
    AddToStreams, CorrectStreams, Linear, Merge, Norm as NormOp, NormAdd, Op, Output,
    PredictStreams,
};
use crate::plan::build::{Builder, Stream};
use crate::plan::{BufferId, BufferType, PlanError};
use crate::spec::{LayerRole as L, Role, Spec, SpecError, inconsistent};

/// Residual streams of a layer:
///
/// ```text
/// p = s + predict(m(s[active])) s
/// a = p[active];  n = norm(a)
/// a = (a + post_norm(mixer(n)) + n + laurel_norm(right(left n))) / sqrt(2)
/// a = a + post_norm(ffn(norm(a)))
/// s = p + (correct(m(a)) + 1) (a - p[active])
/// s[1..] = s[1..] + the layer's own inputs, of scale * s[active]
/// ```
///
/// with `m(x) = tanh(router (router_norm(x) / width))`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Streams {
    /// Number of streams.
    pub count: u32,
    /// Stream that the layer works on.
    pub active: u32,
    /// True if the corrected stream is scaled before the layer's own inputs see it.
    pub scaled: bool,
    /// Rank of the residual branch.
    pub rank: u32,
}

impl Streams {
    pub(super) fn validate(&self, layer: &Layer, spec: &Spec<'_>) -> Result<(), SpecError> {
        if self.active >= self.count || !in_range(&[self.rank]) {
            return inconsistent("a layer works on a residual stream that is not there");
        }
        let all = spec.layers.iter().all(|l| l.streams.is_some_and(|s| s.active == self.active));
        if !all || u64::from(spec.width) * u64::from(self.count) > 1 << 26 {
            return inconsistent("all layers must work on the same of at most 2^26 elements");
        }
        let Layer { norms, scales, input, .. } = layer;
        if !norms.pre || !norms.post || scales.output || scales.residual != 1.0 || input.is_none() {
            return inconsistent(
                "a layer with several residual streams has norms around its parts, inputs of its own, \
                 and no factors",
            );
        }
        Ok(())
    }

    pub(super) fn build(
        &self,
        b: &mut Builder<'_, '_>,
        layer: &Layer,
        l: u32,
        x: Stream,
    ) -> Result<Stream, PlanError> {
        let (width, eps) = (b.spec.width as usize, layer.norms.before.eps);
        let all = self.count as usize * width;
        let (streams, active) = (self.count as u8, self.active as u8);
        let last = l + 1 == b.spec.layers.len();
        let from = b.streams();

        let by = self.modalities(b, layer, l, x)?;
        let mut predicted = b.buffer(BufferType::F32, x.rows, all)?;
        let a = b.buffer(BufferType::F32, x.rows, width)?;
        let coefs = b.id(l, L::StreamPredict);
        b.op(Op::PredictStreams(PredictStreams {
            x: from,
            by,
            coefs,
            out: predicted,
            active_out: a,
            streams,
            active,
        }))?;
        b.barrier()?;
        let mut a = Stream { buffer: a, rows: x.rows };

        let mut laurel = self.laurel(b, layer, l, a)?;
        let mixed: Mixed = layer.build_mixer(b, l, a)?;
        if last {
            a = b.select_rows(a)?;
            laurel = b.selected(laurel, width)?;
            predicted = b.selected(predicted, all)?;
        }
        b.barrier()?;
        let out = mixed.sub_norm(b, layer, l)?;
        b.residual(layer, l, (mixed.product, L::AttnPostNorm), out, a)?;
        b.op(Op::Merge(Merge { x: a.buffer, y: laurel, scale: FRAC_1_SQRT_2 }))?;
        b.barrier()?;
        layer.build_ffn(b, l, a)?;

        let by = self.modalities(b, layer, l, a)?;
        let corrected = b.buffer(BufferType::F32, a.rows, all)?;
        let scaled = b.buffer(BufferType::F32, a.rows, width)?;
        b.op(Op::CorrectStreams(CorrectStreams {
            x: predicted,
            a: a.buffer,
            by,
            coefs: b.id(l, L::StreamCorrect),
            scale: b.spec.find(Role::Layer(l, L::StreamScale)),
            out: corrected,
            active_out: scaled,
            streams,
            active,
        }))?;
        b.barrier()?;
        let Some(input) = &layer.input else { unreachable!("checked by validate") };
        let scaled = Stream { buffer: scaled, rows: a.rows };
        let gated = input.gate(b, l, scaled)?;
        let added = b.buffer(BufferType::F32, a.rows, width)?;
        b.linear(l, L::InputProj, gated, None, Output::Store(added))?;
        b.barrier()?;
        let out = b.buffer(BufferType::F32, a.rows, width)?;
        b.op(Op::AddToStreams(AddToStreams {
            x: added,
            weight: b.id(l, L::InputPostNorm),
            streams: corrected,
            active_out: out,
            eps,
            active,
        }))?;
        b.barrier()?;
        b.set_streams(corrected);
        Ok(Stream { buffer: out, rows: a.rows })
    }

    /// Scores of the streams, of which coefficients are made.
    fn modalities(
        &self,
        b: &mut Builder<'_, '_>,
        layer: &Layer,
        l: u32,
        x: Stream,
    ) -> Result<BufferId, PlanError> {
        let width = b.spec.width as usize;
        let w = b.id(l, L::StreamRouter);
        let before = Norm { kind: NormKind::Rms, ..layer.norms.before };
        let norm = (before, b.id(l, L::StreamRouterNorm), None);
        let [h] = b.norm((x.buffer, width), x.rows, norm, [w])?;
        let out = b.buffer(BufferType::F32, x.rows, self.count as usize)?;
        let (to, scale) = (Output::Store(out), 1.0 / width as f32);
        b.op(Op::Linear(Linear { w, bias: None, x: h, act: None, to, scale, cap: None }))?;
        b.barrier()?;
        Ok(out)
    }

    /// The residual branch of low rank, with the norm that it begins with.
    fn laurel(
        &self,
        b: &mut Builder<'_, '_>,
        layer: &Layer,
        l: u32,
        a: Stream,
    ) -> Result<BufferId, PlanError> {
        let (width, before) = (b.spec.width as usize, layer.norms.before);
        let (left, right) = (b.id(l, L::LaurelLeft), b.id(l, L::LaurelRight));
        let (weight, bias) = (b.id(l, L::AttnNorm), b.spec.find(Role::Layer(l, L::AttnNormBias)));
        let out = b.buffer(BufferType::F32, a.rows, width)?;
        b.op(Op::Norm(NormOp { x: a.buffer, weight, bias, out, eps: before.eps }))?;
        let h = match b.input_type(left) {
            BufferType::F32 => {
                b.barrier()?;
                out
            }
            _ => b.norm((a.buffer, width), a.rows, (before, weight, bias), [left])?[0],
        };
        let kind = b.input_type(right);
        let inner = b.buffer(kind, a.rows, self.rank as usize)?;
        b.linear(l, L::LaurelLeft, h, None, Output::Store(inner))?;
        b.barrier()?;
        let added = b.buffer(BufferType::F32, a.rows, width)?;
        b.linear(l, L::LaurelRight, inner, None, Output::Store(added))?;
        b.barrier()?;
        let (weight, eps, scale, then) = (b.id(l, L::LaurelNorm), before.eps, 1.0, None);
        b.op(Op::NormAdd(NormAdd { x: added, weight, out, eps, scale, then }))?;
        b.barrier()?;
        Ok(out)
    }
}
