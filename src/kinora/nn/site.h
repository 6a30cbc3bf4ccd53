// Seam 1, sites: what runs inside a model call. Each attention, cross attention and MLP runs through `site`, twice
// nested, because references cache at different points: the module's output before the gate (diffusers; CogVideoX and
// Open-Sora-Plan in VideoSys), and what is added to x (Open-Sora and Latte in VideoSys). Blocks run through `stack`.
#pragma once

#include <c10/util/FunctionRef.h>

#include <functional>
#include <string_view>

#include "kinora/nn/run.h"

namespace kinora {

enum class Kind : uint8_t { spatial, temporal, full, cross, mlp };
enum class Point : uint8_t { module, residual };  ///< before the gate | what is added to x

struct SiteKey {
  std::string_view path;  ///< published module path, "spatial_blocks.3.attn"
  int block;              ///< index in its stack
  Kind kind;
  Point point;
};

/// The blocks of a model, in order. `block` may be called again for the same index (recomputation in backward), so it
/// owns, or outlives, what it captures.
struct Stack {
  std::string_view path;
  int blocks = 0;
  std::function<Streams(const Run&, int block, Streams)> block;
  /// What policies look at before they decide: "modulated_input" of the first block, "time_embed", "time_projection"
  /// (what modulates the blocks, before their own tables). Undefined tensor: not known.
  std::function<Tensor(const Run&, std::string_view probe, const Streams&)> probe;
  Extent extent = {};  ///< of the video rows of the whole, for policies that gather them (Layout::whole)
  /// Every tensor that `block` reads besides its streams and its weights, in an order that is the same in all calls
  /// (undefined where a call has none): what is computed from the timestep, positions, text. A captured block takes
  /// them as inputs; one that is missing here is baked into the graph with the values of the step at which it was
  /// captured. Host values that `block` reads (lengths of captions) are baked in any case, so graphs live no longer
  /// than the request.
  std::vector<Tensor> conditioning = {};
};

/// Decides compute or reuse and owns what it keeps, per request and transformer. A policy that keeps values apart for
/// the guidance branches splits dimension 0 of every stream by run.rows; both branches of a step have the same
/// step.call, in one call or two. Two policies combine in a third that forwards sites to one and `stack` to the other;
/// what owns the loop must run blocks with the Run it was given, so that its sites still reach both. Under a policy
/// that leaves blocks out, sites are not visited in every call: age is step.call minus the call of the last keep, never
/// a count of visits.
class Policy {
 public:
  virtual ~Policy() = default;
  /// Pure, on the host, known before the block runs (plans and streaming depend on it).
  virtual bool reuses(const SiteKey&, const Run&) const { return false; }
  /// What stands in for the computation; called only where `reuses` said so.
  virtual Streams reuse(const SiteKey&, const Run&) { return {}; }
  /// Whether `keep` is wanted if this site is computed: pure, on the host, known before the block runs, as `reuses` is.
  /// Only what is kept must leave a captured block as an output, so that other values may be cut in pieces or share
  /// memory.
  virtual bool keeps(const SiteKey&, const Run&) const { return true; }
  /// What a computed site gave. The tensors are the model's own, never written again; they may be views of something
  /// larger. A captured block hands them over after it ran, whatever the order of its sites.
  virtual void keep(const SiteKey&, const Run&, const Streams&) {}
  /// Told of each visit of a site, behind it: for counts and traces.
  virtual void ran(const SiteKey&, const Run&, bool reused) { static_cast<void>(reused); }
  /// Owns the loop over blocks: First-Block-Cache and its kin. Default: every block once.
  virtual Streams stack(const Run&, const Stack&, Streams streams);
};

/// Whether what a site gives is of no use to anybody but the model, so that a model may leave it inside a fused
/// operator: the policy neither reuses nor keeps it. Such a site is to be passed over, but for `ran`.
bool is_unwatched(const Run& run, const SiteKey& key);

/// `compute`, or what the policy has in its stead. Without a policy it costs nothing.
Streams site(const Run& run, const SiteKey& key, c10::function_ref<Streams()> compute);

/// site() for one stream.
Tensor site_tensor(const Run& run, const SiteKey& key, c10::function_ref<Tensor()> compute);

/// The model's loop over its blocks.
Streams stack(const Run& run, const Stack& blocks, Streams streams);

/// Blocks begin .. end-1; throws CancelledError between blocks once run.cancel is set. For policies that own the loop.
Streams run_blocks(const Run& run, const Stack& blocks, int begin, int end, Streams streams);

}  // namespace kinora
