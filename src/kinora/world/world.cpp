#include "kinora/world/world.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kinora/base/error.h"
#include "kinora/world/place.h"
#include "kinora/world/random.h"

namespace kinora::world {
namespace {

std::vector<Combination> combinations(const WorldConfig& config) {
  std::vector<Combination> all;
  for (const auto& shape : config.shapes) {
    for (const auto& colour : config.colours) {
      for (const auto& motion : config.motions) all.push_back({shape, colour, motion});
    }
  }
  return all;
}

bool contains(const std::vector<Combination>& all, const Combination& one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

std::vector<Combination> combinations(const WorldConfig& config, Split split) {
  std::vector<Combination> all = combinations(config);
  if (split == Split::any) return all;
  const std::vector<Combination> kept = held_out(config);
  if (split == Split::held_out) return kept;
  std::erase_if(all, [&](const Combination& c) { return contains(kept, c); });
  return all;
}

/// combinations(), of which there is at least one.
std::vector<Combination> some_combinations(const WorldConfig& config, Split split) {
  std::vector<Combination> from = combinations(config, split);
  if (from.empty()) throw UsageError("the world has no combination in this split", "Set held_out above 0.");
  return from;
}

const Combination& pick(const std::vector<Combination>& from, Random& random) {
  return from[random.below(from.size())];
}

Object object_of(const Combination& c) { return {.shape = c.shape, .colour = c.colour, .motion = c.motion}; }

Scene draw_single(const WorldConfig& config, uint64_t seed, const std::vector<Combination>& from) {
  Random random(join(seed, key_of("scene")));
  const Combination& c = pick(from, random);
  const std::string& background = config.backgrounds[random.below(config.backgrounds.size())];
  const SizeRange& size = config.sizes[random.below(config.sizes.size())];
  Random where(join(seed, key_of("place")));
  return {{place(config, object_of(c), size, where)}, background};
}

}  // namespace

std::vector<Combination> held_out(const WorldConfig& config) {
  const std::vector<Combination> all = combinations(config);
  const size_t shapes = config.shapes.size(), colours = config.colours.size(), motions = config.motions.size();
  const auto want = static_cast<size_t>(std::lround(config.held_out_fraction * static_cast<double>(all.size())));
  // The order comes from the names, so a world that gains a row keeps the order of the combinations that it had.
  std::vector<std::pair<uint64_t, size_t>> ranked;
  for (size_t i = 0; i < all.size(); ++i)
    ranked.emplace_back(key_of(all[i].shape + "/" + all[i].colour + "/" + all[i].motion), i);
  std::sort(ranked.begin(), ranked.end());
  // How often a value, and a pair of values, is held out.
  std::vector<size_t> of_shape(shapes), of_colour(colours), of_motion(motions);
  std::vector<size_t> shape_colour(shapes * colours), shape_motion(shapes * motions), colour_motion(colours * motions);
  std::vector<bool> is_kept(all.size(), false);
  std::vector<Combination> kept;
  // The caps rise only when nothing more fits under them: values are held out evenly, and pairs at most once each at
  // first.
  for (size_t cap = 1; kept.size() < want && cap <= all.size(); ++cap) {
    const size_t pair_cap = 1 + (cap - 1) / std::max<size_t>(1, colours + motions);
    for (const auto& [rank, i] : ranked) {
      if (kept.size() == want) break;
      if (is_kept[i]) continue;
      const size_t m = i % motions, c = i / motions % colours, s = i / motions / colours;
      size_t* const pairs[] = {&shape_colour[s * colours + c], &shape_motion[s * motions + m],
                               &colour_motion[c * motions + m]};
      size_t* const values[] = {&of_shape[s], &of_colour[c], &of_motion[m]};
      const auto is_full = [](size_t most) { return [most](const size_t* uses) { return *uses >= most; }; };
      if (std::any_of(std::begin(pairs), std::end(pairs), is_full(pair_cap))) continue;
      if (std::any_of(std::begin(values), std::end(values), is_full(cap))) continue;
      for (size_t* uses : pairs) ++*uses;
      for (size_t* uses : values) ++*uses;
      is_kept[i] = true;
      kept.push_back(all[i]);
    }
  }
  return kept;
}

bool is_held_out(const WorldConfig& config, const Scene& scene) {
  const std::vector<Combination> kept = held_out(config);
  return std::any_of(scene.objects.begin(), scene.objects.end(), [&](const Object& o) {
    return contains(kept, {o.shape, o.colour, o.motion});
  });
}

Scene draw(const WorldConfig& config, uint64_t seed, Split split) {
  Random random(join(seed, key_of("number of objects")));
  if (random.uniform() < config.pairs) return draw_pair(config, seed, split);
  return draw_single(config, seed, some_combinations(config, split));
}

Scene draw_pair(const WorldConfig& config, uint64_t seed, Split split) {
  constexpr int kTries = 8;
  const std::vector<Combination> first_of = some_combinations(config, split);
  const std::vector<Combination> second_of = combinations(config, split == Split::train ? split : Split::any);
  const auto by_radius = [](const SizeRange& a, const SizeRange& b) { return a.max_radius_px < b.max_radius_px; };
  const SizeRange& size = *std::min_element(config.sizes.begin(), config.sizes.end(), by_radius);
  Random random(join(seed, key_of("pair")));
  for (int i = 0; i < kTries; ++i) {
    const Combination& first = pick(first_of, random);
    std::vector<Combination> others;
    for (const Combination& c : second_of) {
      if (c.shape != first.shape && c.colour != first.colour) others.push_back(c);
    }
    if (others.empty()) continue;
    const Combination& second = pick(others, random);
    const std::string& background = config.backgrounds[random.below(config.backgrounds.size())];
    if (auto both = place_apart(config, object_of(first), object_of(second), size, random)) {
      // Which of them may be held out must not show in their order.
      if (random.uniform() < 0.5) std::swap(both->first, both->second);
      return {{std::move(both->first), std::move(both->second)}, background};
    }
  }
  return draw_single(config, seed, first_of);
}

std::vector<Scene> every_combination(const WorldConfig& config, Split split, uint64_t seed) {
  std::vector<Scene> scenes;
  for (const Combination& c : combinations(config, split)) {
    for (const auto& background : config.backgrounds) {
      for (const SizeRange& size : config.sizes) {
        Random random(join(seed, scenes.size()));
        scenes.push_back({{place(config, object_of(c), size, random)}, background});
      }
    }
  }
  return scenes;
}

Scene sample_scene(const WorldConfig& config, uint64_t seed, uint64_t index, Split split) {
  return draw(config, join(seed, index), split);
}

Sample sample(const WorldConfig& config, uint64_t seed, uint64_t index, Split split) {
  const uint64_t key = join(seed, index);
  Sample out;
  out.scene = sample_scene(config, seed, index, split);
  out.clip = render(config, out.scene);
  out.caption = caption(out.scene, key);
  return out;
}

}  // namespace kinora::world
