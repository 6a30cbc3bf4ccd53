#include "kinora/offload/blocks.h"

#include <c10/util/accumulate.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "kinora/base/error.h"
#include "kinora/base/memory.h"
#include "kinora/offload/schedule.h"

namespace kinora::offload {
namespace {

struct Place {
  std::string stack;
  int64_t index = 0;
};

/// The first part of a name that is a number, and what stands before it.
std::optional<Place> place_of(const std::string& name) {
  for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
    const std::string part = name.substr(dot + 1, name.find('.', dot + 1) - dot - 1);
    const bool is_number =
        !part.empty() && part.size() < 9 && part.find_first_not_of("0123456789") == std::string::npos;
    if (is_number) return Place{name.substr(0, dot), std::stol(part)};
  }
  return std::nullopt;
}

bool is_whole(const std::set<int64_t>& indices) {
  return indices.size() > 1 && *indices.begin() == 0 && *indices.rbegin() == static_cast<int64_t>(indices.size()) - 1;
}

/// Bytes of the matrices of each block that may stream, and of everything else.
struct Sizes {
  std::vector<uint64_t> streamed;
  uint64_t rest = 0;
};

Sizes sizes_of(const Params& params, const Blocks& blocks, size_t element_bytes, int64_t least_elements) {
  Sizes sizes{.streamed = std::vector<uint64_t>(blocks.names.size())};
  for (const Param& p : params) {
    const uint64_t bytes = static_cast<uint64_t>(c10::multiply_integers(p.shape)) * element_bytes;
    if (may_stream(p, blocks, least_elements)) {
      sizes.streamed[static_cast<size_t>(blocks.of[static_cast<size_t>(p.id)])] += bytes;
    } else {
      sizes.rest += bytes;
    }
  }
  return sizes;
}

StreamPlan plan_of(const Sizes& sizes, const Blocks& blocks, int resident_blocks, int slots, int64_t least_elements) {
  StreamPlan plan{.blocks = blocks,
                  .resident = spread_evenly(blocks.size(), resident_blocks),
                  .least_elements = least_elements,
                  .resident_bytes = sizes.rest};
  uint64_t largest = 0;
  for (size_t b = 0; b < sizes.streamed.size(); ++b) {
    (plan.resident[b] ? plan.resident_bytes : plan.streamed_bytes) += sizes.streamed[b];
    if (!plan.resident[b]) largest = std::max(largest, sizes.streamed[b]);
  }
  plan.slots = std::min(slots, blocks.size() - resident_blocks);
  plan.ring_bytes = largest * static_cast<uint64_t>(plan.slots);
  return plan;
}

}  // namespace

Blocks find_blocks(const Params& params) {
  std::map<std::string, std::set<int64_t>> stacks;
  for (const Param& p : params) {
    if (const auto place = place_of(p.name)) stacks[place->stack].insert(place->index);
  }
  std::map<std::pair<int64_t, int32_t>, std::string> in_order;  // by index, then by declaration
  std::map<std::string, std::pair<int64_t, int32_t>> keys;
  for (const Param& p : params) {
    const auto place = place_of(p.name);
    if (!place || !is_whole(stacks[place->stack])) continue;
    const std::string name = concat(place->stack, ".", place->index);
    if (keys.emplace(name, std::pair(place->index, p.id)).second) in_order[{place->index, p.id}] = name;
  }
  Blocks blocks{.of = std::vector<int>(static_cast<size_t>(params.size()), -1), .names = {}};
  std::map<std::string, int> number;
  for (const auto& [key, name] : in_order) {
    number[name] = blocks.size();
    blocks.names.push_back(name);
  }
  for (const Param& p : params) {
    const auto place = place_of(p.name);
    const auto found = place ? number.find(concat(place->stack, ".", place->index)) : number.end();
    if (found != number.end()) blocks.of[static_cast<size_t>(p.id)] = found->second;
  }
  return blocks;
}

bool may_stream(const Param& param, const Blocks& blocks, int64_t least_elements) {
  return blocks.of.at(static_cast<size_t>(param.id)) >= 0 && param.shape.size() == 2 &&
         param.name.ends_with("weight") && c10::multiply_integers(param.shape) >= least_elements;
}

StreamPlan plan_stream(const Params& params, size_t element_bytes, uint64_t budget_bytes, int slots,
                       int64_t least_elements) {
  const Blocks blocks = find_blocks(params);
  const Sizes sizes = sizes_of(params, blocks, element_bytes, least_elements);
  for (int count = blocks.size(); count >= 0; --count) {
    StreamPlan plan = plan_of(sizes, blocks, count, slots, least_elements);
    if (plan.bytes() <= budget_bytes) return plan;
  }
  const uint64_t least = plan_of(sizes, blocks, 0, slots, least_elements).bytes();
  throw ResourceError(concat("the weights do not fit in ", human_bytes(budget_bytes), ", not even streamed"),
                      concat(human_bytes(least), " is the least: what stays, and a ring of ", slots, " blocks"));
}

StreamPlan stream_with(const Params& params, size_t element_bytes, int resident_blocks, int slots,
                       int64_t least_elements) {
  const Blocks blocks = find_blocks(params);
  return plan_of(sizes_of(params, blocks, element_bytes, least_elements), blocks, resident_blocks, slots,
                 least_elements);
}

}  // namespace kinora::offload
