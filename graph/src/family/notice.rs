//! Notices: what a model's metadata say that a family decides by a written rule.

/// Maximum number of notices of a model.
pub const MAX_NOTICES: usize = 12;

/// Setting of a model's file that contradicts another one, or that its architecture doesn't have,
/// with the rule that decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Notice {
    /// Key that is overruled.
    pub key: &'static str,
    /// Rule.
    pub rule: Rule,
}

/// Rule for metadata that contradict themselves.
///
/// Each is a row of `docs/compatibility.md`, with what transformers and llama.cpp do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Rule {
    /// The head is tied to the embedding, but has weights of its own, which differ: they are kept.
    HeadKept,
    /// A window in an architecture that has none is ignored.
    NoWindow,
    /// Kinds of layers in an architecture whose layers are all of one kind are ignored.
    OneKind,
    /// `rope_scaling` replaces `rope_parameters`.
    ScalingReplaces,
    /// The rotary base among the other rotary parameters counts, not the one outside.
    InnerBase,
    /// `rope_type` counts, not the older `type` beside it.
    RopeType,
    /// The original context outside of the rotary parameters counts, not the one inside.
    OuterContext,
    /// Rotary parameters of a model with one embedding for each kind of layer must be listed by
    /// kind; others are ignored.
    ByKind,
    /// A factor of a scaling whose kind isn't given, or says that there is none.
    NoKind,
    /// Gemma 3 knows the kind of a scaling as `rope_type`; the older `type` alone is ignored.
    OnlyRopeType,
    /// Kinds of layers are given by `layer_types`, not by a number of layers or a list of some.
    LayerTypes,
    /// A pattern of windows under a name that isn't read.
    PatternName,
    /// A field's older name counts where both are given.
    OlderName,
    /// The last layer attends to everything, whatever the list of kinds says.
    LastFull,
    /// `per_layer_config` has the heads of layers without a window, not the keys for all of them.
    PerLayerConfig,
    /// Layers with linear attention are listed one by one, not by an interval.
    RecurrentLayers,
    /// Sections of a rotary embedding, which are of images, are ignored.
    Sections,
    /// The weights of the chosen experts are divided by their sum, whatever a switch says.
    Normalised,
}

impl Rule {
    /// All rules.
    pub const ALL: [Rule; 18] = [
        Rule::HeadKept,
        Rule::NoWindow,
        Rule::OneKind,
        Rule::ScalingReplaces,
        Rule::InnerBase,
        Rule::RopeType,
        Rule::OuterContext,
        Rule::ByKind,
        Rule::NoKind,
        Rule::OnlyRopeType,
        Rule::LayerTypes,
        Rule::PatternName,
        Rule::OlderName,
        Rule::LastFull,
        Rule::PerLayerConfig,
        Rule::RecurrentLayers,
        Rule::Sections,
        Rule::Normalised,
    ];

    /// Value that was taken.
    #[must_use]
    pub const fn taken(self) -> &'static str {
        match self {
            Rule::HeadKept => "the head's own weights",
            Rule::NoWindow => "no window",
            Rule::OneKind => "layers of one kind",
            Rule::ScalingReplaces => "`rope_scaling` alone",
            Rule::InnerBase => "the base among the rotary parameters",
            Rule::RopeType => "`rope_type`",
            Rule::OuterContext => "`original_max_position_embeddings` outside of them",
            Rule::ByKind => "the parameters listed by kind of layer, or their defaults",
            Rule::NoKind | Rule::OnlyRopeType => "no scaling",
            Rule::LayerTypes => "`layer_types`",
            Rule::PatternName => "a layer without a window after every five with one",
            Rule::OlderName => "the value under the other name",
            Rule::LastFull => "a last layer without a window",
            Rule::PerLayerConfig => "`per_layer_config`",
            Rule::RecurrentLayers => "`attention.recurrent_layers`",
            Rule::Sections => "the positions of the text, for all frequencies",
            Rule::Normalised => "weights that are divided by their sum",
        }
    }

    /// Reason for taking it.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Rule::HeadKept => {
                "the file has a head whose weights differ from the embedding's, which transformers \
                 5 keeps too"
            }
            Rule::NoWindow => {
                "this architecture has no windows, and transformers and llama.cpp ignore it too"
            }
            Rule::OneKind => {
                "this architecture has no other kinds, and transformers ignores it too"
            }
            Rule::ScalingReplaces => {
                "it is the older name of `rope_parameters` as a whole, and transformers 5 prefers it"
            }
            Rule::InnerBase => "transformers 5 and llama.cpp prefer it",
            Rule::RopeType => "it is the newer name, which transformers 5 and llama.cpp prefer",
            Rule::OuterContext => "transformers 5 prefers it",
            Rule::ByKind => {
                "layers with and without a window have rotary embeddings of their own, and \
                 transformers 5 ignores the others"
            }
            Rule::NoKind => {
                "the kind of scaling is `default` or not given, and transformers and llama.cpp \
                 ignore it too"
            }
            Rule::OnlyRopeType => "transformers 5 reads `rope_type` alone in this place",
            Rule::LayerTypes => "transformers 5 prefers the list",
            Rule::PatternName => "transformers 5 reads `sliding_window_pattern` and `layer_types`",
            Rule::OlderName => "transformers 5 prefers it",
            Rule::LastFull => "the last layer of this architecture has none in transformers 5",
            Rule::PerLayerConfig => "transformers 5 ignores the other keys beside it",
            Rule::RecurrentLayers => "llama.cpp prefers the list",
            Rule::Normalised => {
                "this architecture has no such switch, and transformers and llama.cpp ignore it too"
            }
            Rule::Sections => {
                "their sum is not the number of frequencies, and a token of text has the same position \
                 in all of them, for transformers and llama.cpp too"
            }
        }
    }
}
