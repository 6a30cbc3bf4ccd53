#include "kinora/cli/command.h"

#include <ATen/Parallel.h>

#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <iostream>

#include "kinora/base/error.h"
#include "kinora/base/utf8.h"
#include "kinora/tensor/device.h"

namespace kinora::cli {

void add_threads(CLI::App& command, int64_t& threads) {
  command.add_option("--threads", threads, "threads of the operators (default: one a core)");
}

void use_threads(int64_t threads) {
  if (threads < 0 || threads > 1024) throw UsageError(concat("--threads cannot be ", threads), "choose 1 to 1024");
  if (threads > 0) at::set_num_threads(static_cast<int>(threads));
}

void add_device(CLI::App& command, std::string& device) {
  command.add_option("--device", device, "cpu, cuda or cuda:N")->capture_default_str();
}

c10::Device parse_device(const std::string& name) { return kinora::parse_device(name); }

uint64_t parse_bytes(const std::string& text) {
  if (text.empty()) return 0;
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  while (*end == ' ') ++end;
  std::string unit = end;
  for (char& c : unit) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  if (!unit.empty() && unit.back() == 'B') unit.pop_back();
  const bool is_binary = unit.size() == 2 && unit[1] == 'I';
  const size_t power = unit.empty() ? 0 : std::string("KMGT").find(unit[0]) + 1;  // npos + 1: 0
  const bool is_known = unit.empty() || (power > 0 && (unit.size() == 1 || is_binary));
  const double factor = is_known ? std::pow(is_binary ? 1024.0 : 1000.0, static_cast<double>(power)) : NAN;
  const double bytes = value * factor;
  if (end == text.c_str() || !(bytes >= 1) || bytes > 1e18) {
    throw UsageError(concat("\"", printable(text), "\" is no amount of memory"), "write it as 8GB, 512MB or 4GiB");
  }
  return static_cast<uint64_t>(bytes);
}

uint64_t parse_seed(const std::string& text) {
  uint64_t seed = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), seed);
  if (failed != std::errc() || end != text.data() + text.size()) {
    throw UsageError(concat("the seed \"", printable(text), "\" is no number"), "choose 0 to 18446744073709551615");
  }
  return seed;
}

void print_json(const Json& json) {
  std::cout << json.dump(-1, ' ', true, Json::error_handler_t::replace) << std::endl;
}

}  // namespace kinora::cli
