// The models of the tests of layouts, and how they run over ranks.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kinora/comm/threads.h"
#include "kinora/comm/traffic.h"
#include "kinora/parallel/bytes.h"
#include "kinora/parallel/layouts.h"
#include "seams/on_each_model.h"

namespace kinora::seams {

inline constexpr int kRanks[] = {1, 2, 3, 4, 5, 8};

/// All of tests/seams: STDiT3 (with and without a given frame), Latte, CogVideoX, Wan; 3 frames of 9 rows.
std::vector<Subject> subjects();

/// 8 frames of 64 rows, 64 wide, 4 heads: products of hundreds of rows.
Subject make_larger_stdit3();
Subject make_larger_wan();
Subject make_larger_latte();
Subject make_larger_cogvideox();
/// 4 frames of 16 rows, 4 heads: 2 and 4 ranks divide all.
Subject make_even_stdit3();

/// Every arrangement of `ranks` ranks that the model takes: both axes and all groupings, with ranks that own nothing, and
/// over 2 and 3 ranks in 1, 2 and 3 pieces.
std::vector<parallel::Arrangement> arrangements(const Subject& subject, int ranks);
std::string name_of(const Subject& subject, const parallel::Arrangement& arrangement);

/// One rank of an arrangement.
struct Place {
  int rank = 0;
  const Layout& layout;
  comm::Communicator& across;
  comm::Communicator& sequence;
  comm::Traffic& traffic;
};
void on_ranks(const Subject& subject, const parallel::Arrangement& arrangement, const std::function<void(Place&)>& f);

/// The call of `subject` as formulas see it.
parallel::CallShape shape_of(const Subject& subject, int64_t element_bytes = 8);

}  // namespace kinora::seams
