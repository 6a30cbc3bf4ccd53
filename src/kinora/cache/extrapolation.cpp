#include "kinora/cache/extrapolation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <tuple>

#include "kinora/base/error.h"

namespace kinora::cache {
namespace {

// Of the mean square of what a made-up value is made from: keeps weights small where its parts are nearly alike.
constexpr double kRidge = 1e-4;

/// Inner products of what guidance makes of the predictions: calls 0 .. N-1, and the first latents as N.
class Guided {
 public:
  Guided(const Gram& gram, double scale) : calls_(gram.calls) {
    const int64_t n = calls_ + 1;
    products_.resize(static_cast<size_t>(n * n));
    const auto parts = [&](int64_t k) -> std::array<std::pair<int64_t, double>, 2> {
      if (k == calls_) return {{{2 * calls_, 1.0}, {2 * calls_, 0.0}}};
      return {{{k, scale}, {calls_ + k, 1 - scale}}};
    };
    for (int64_t a = 0; a < n; ++a) {
      for (int64_t b = 0; b < n; ++b) {
        double sum = 0;
        for (const auto& [i, u] : parts(a)) {
          for (const auto& [j, v] : parts(b)) sum += u * v * gram.at(i, j);
        }
        products_[static_cast<size_t>(a * n + b)] = sum;
      }
    }
  }

  int64_t calls() const { return calls_; }
  double at(int64_t a, int64_t b) const { return products_[static_cast<size_t>(a * (calls_ + 1) + b)]; }

 private:
  int64_t calls_;
  std::vector<double> products_;
};

/// Solves A x = b for a symmetric positive definite A of up to three rows, by Cholesky's decomposition.
std::vector<double> solve(std::vector<std::vector<double>> a, std::vector<double> b) {
  const size_t n = b.size();
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j <= i; ++j) {
      double sum = a[i][j];
      for (size_t k = 0; k < j; ++k) sum -= a[i][k] * a[j][k];
      a[i][j] = i == j ? std::sqrt(std::max(sum, std::numeric_limits<double>::min())) : sum / a[j][j];
    }
  }
  for (size_t i = 0; i < n; ++i) {
    for (size_t k = 0; k < i; ++k) b[i] -= a[i][k] * b[k];
    b[i] /= a[i][i];
  }
  for (size_t i = n; i-- > 0;) {
    for (size_t k = i + 1; k < n; ++k) b[i] -= a[k][i] * b[k];
    b[i] /= a[i][i];
  }
  return b;
}

/// The best combination of `basis` for call k.
std::vector<double> best_weights(const Guided& v, int64_t k, const std::vector<int64_t>& basis) {
  std::vector<std::vector<double>> a(basis.size(), std::vector<double>(basis.size()));
  std::vector<double> b;
  double trace = 0;
  for (size_t i = 0; i < basis.size(); ++i) {
    for (size_t j = 0; j < basis.size(); ++j) a[i][j] = v.at(basis[i], basis[j]);
    b.push_back(v.at(basis[i], k));
    trace += a[i][i];
  }
  for (size_t i = 0; i < basis.size(); ++i) a[i][i] += kRidge * trace / static_cast<double>(basis.size());
  return solve(std::move(a), std::move(b));
}

/// What a call is made up from: the last computed calls and the first latents.
std::vector<int64_t> basis_of(const Guided& v, int64_t before, int64_t last) {
  std::vector<int64_t> basis{last};
  if (before >= 0) basis.push_back(before);
  basis.push_back(v.calls());
  return basis;
}

using Vector = std::vector<std::pair<int64_t, double>>;  // by the index of Guided

double square(const Guided& v, const Vector& x) {
  double sum = 0;
  for (const auto& [a, u] : x) {
    for (const auto& [b, w] : x) sum += u * w * v.at(a, b);
  }
  return std::max(sum, 0.0);
}

/// How far the last sample moves when the calls between `last` and `next` are made up.
double gap_error(const Guided& v, std::span<const double> influence, int64_t before, int64_t last, int64_t next) {
  const auto basis = basis_of(v, before, last);
  Vector error;
  for (const int64_t b : basis) error.emplace_back(b, 0.0);
  for (int64_t k = last + 1; k < next; ++k) {
    const double c = influence[static_cast<size_t>(k)];
    const auto weights = best_weights(v, k, basis);
    for (size_t i = 0; i < basis.size(); ++i) error[i].second -= c * weights[i];
    error.emplace_back(k, c);
  }
  return square(v, error);
}

}  // namespace

std::vector<PlannedCall> plan_calls(const Gram& gram, double guidance_scale, std::span<const double> influence,
                                    int64_t computed) {
  const int64_t calls = gram.calls;
  if (computed < 1 || computed > calls)
    throw UsageError(concat("a plan of ", calls, " calls cannot compute ", computed), concat("choose 1 to ", calls));
  if (static_cast<int64_t>(influence.size()) != calls)
    throw UsageError(concat("the calibration is of ", calls, " calls, the run makes ", influence.size()));
  const Guided v(gram, guidance_scale);
  const int64_t longest = std::max<int64_t>(8, 2 * calls / computed + calls / 8);  // of a gap
  std::map<std::tuple<int64_t, int64_t, int64_t>, double> errors;
  const auto error_of = [&](int64_t before, int64_t last, int64_t next) {
    const auto [entry, is_new] = errors.try_emplace({before, last, next}, 0.0);
    if (is_new && next > last + 1) entry->second = gap_error(v, influence, before, last, next);
    return entry->second;
  };
  // The best way to each pair of the last two computed calls, one computation more at a time.
  struct Way {
    double error = 0;
    std::vector<int64_t> path;
  };
  std::map<std::pair<int64_t, int64_t>, Way> ways{{{-1, 0}, {0.0, {0}}}};
  for (int64_t done = 1; done < computed; ++done) {
    std::map<std::pair<int64_t, int64_t>, Way> longer;
    for (const auto& [pair, way] : ways) {
      for (int64_t next = pair.second + 1; next < std::min(calls, pair.second + 1 + longest); ++next) {
        const double error = way.error + error_of(pair.first, pair.second, next);
        const auto [entry, is_new] = longer.try_emplace({pair.second, next});
        if (!is_new && entry->second.error <= error) continue;
        entry->second = {error, way.path};
        entry->second.path.push_back(next);
      }
    }
    ways = std::move(longer);
  }
  double least = std::numeric_limits<double>::max();
  std::vector<int64_t> path;
  for (const auto& [pair, way] : ways) {
    const double error = way.error + error_of(pair.first, pair.second, calls);
    if (error < least) least = error, path = way.path;
  }
  std::vector<PlannedCall> plan;
  int64_t before = -1, last = -1;
  for (int64_t k = 0; k < calls; ++k) {
    if (std::binary_search(path.begin(), path.end(), k)) {
      before = last, last = k;
      plan.push_back({});
      continue;
    }
    const auto basis = basis_of(v, before, last);
    const auto weights = best_weights(v, k, basis);
    PlannedCall call{false, {}, weights.back()};
    for (size_t i = 0; i + 1 < basis.size(); ++i) call.weights.emplace_back(basis[i], weights[i]);
    plan.push_back(std::move(call));
  }
  return plan;
}

double expected_error(const Gram& gram, double guidance_scale, std::span<const double> influence,
                      std::span<const PlannedCall> plan) {
  const Guided v(gram, guidance_scale);
  std::map<int64_t, double> error;
  for (size_t k = 0; k < plan.size(); ++k) {
    if (plan[k].is_computed) continue;
    error[static_cast<int64_t>(k)] += influence[k];
    for (const auto& [call, weight] : plan[k].weights) error[call] -= influence[k] * weight;
    error[v.calls()] -= influence[k] * plan[k].first_latents;
  }
  return std::sqrt(square(v, {error.begin(), error.end()}));
}

}  // namespace kinora::cache
