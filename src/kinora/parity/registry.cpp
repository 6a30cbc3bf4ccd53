#include "kinora/parity/registry.h"

#include <stdexcept>

#include "kinora/base/error.h"
#include "kinora/parity/runners.h"

namespace kinora::parity {

void Registry::add(std::string cls, std::string method, Runner runner) {
  const auto [at, added] = runners_.try_emplace({std::move(cls), std::move(method)}, std::move(runner));
  if (!added) throw std::logic_error(concat("two runners for ", at->first.first, ".", at->first.second));
}

const Runner* Registry::find(std::string_view cls, std::string_view method) const {
  const auto found = runners_.find(std::pair(std::string(cls), std::string(method)));
  return found == runners_.end() ? nullptr : &found->second;
}

Registry all_runners() {
  Registry registry;
  add_cache(registry);
  add_cache_loops(registry);
  add_open_sora(registry);
  add_vae(registry);
  add_text(registry);
  add_cogvideox(registry);
  add_decoder(registry);
  add_latte(registry);
  add_wan(registry);
  add_tokenizers(registry);
  add_metrics(registry);
  add_schedulers(registry);
  add_tables(registry);
  add_pipeline(registry);
  return registry;
}

}  // namespace kinora::parity
