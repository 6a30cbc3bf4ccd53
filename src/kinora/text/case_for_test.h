// For tests of this room: the JSON and the int32 tensors of a parity case, without the rooms above.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "kinora/base/file.h"
#include "kinora/base/json.h"

namespace kinora::text {

struct TestCase {
  Json header;
  Json meta;  // the metadata's "case"
  std::string data;

  explicit TestCase(const std::string& name) {
    const std::string bytes = read_file("tests/cases/" + name + ".safetensors", 1 << 24);
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), sizeof length);
    header = Json::parse(bytes.substr(8, length));
    meta = Json::parse(header["__metadata__"]["case"].get<std::string>());
    data = bytes.substr(8 + length);
  }

  std::vector<std::string> texts() const { return meta["inputs"]["texts"]["value"].get<std::vector<std::string>>(); }

  std::vector<int32_t> ints(const std::string& output) const {
    const auto offsets = header["output." + output]["data_offsets"].get<std::vector<size_t>>();
    std::vector<int32_t> out((offsets[1] - offsets[0]) / 4);
    std::memcpy(out.data(), data.data() + offsets[0], offsets[1] - offsets[0]);
    return out;
  }

  // The outputs `ids` and `lengths`, one list a text.
  std::vector<std::vector<int64_t>> id_lists() const {
    std::vector<std::vector<int64_t>> out;
    const auto ids = ints("ids");
    auto at = ids.begin();
    for (const int32_t length : ints("lengths")) {
      out.emplace_back(at, at + length);
      at += length;
    }
    return out;
  }
};

}  // namespace kinora::text
