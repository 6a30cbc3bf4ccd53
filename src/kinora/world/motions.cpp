// The motions, each with the test that tells it from the others. No motion is faster than about 5 px a frame: what
// jumps further is lost by an autoencoder that compresses time.
#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>

#include "kinora/world/tables.h"

namespace kinora::world {
namespace {

constexpr double kPi = 3.141592653589793;
constexpr double kHopFrames = 18.0;            // from ground to ground
constexpr double kHopHeight = 12.0;            // px for a speed of 1 px per frame
constexpr double kRoundFrames = 24.0;          // of an orbit
constexpr double kRoundRadius = 8.2;           // px for a speed of 1 px per frame
constexpr double kTurn = 7.0 * kPi / 180.0;    // radians a frame for a speed of 1 px per frame
constexpr double kGrowth = 0.02;               // of the scale a frame for a speed of 1 px per frame
constexpr double kShyOf = 0.5, kBeyond = 1.8;  // how far from the world's speeds a motion may lie
constexpr size_t kFewestFrames = 8;            // for what is told by its course and not by its direction

Pose glide_left(double frame, double speed) { return {.x = -speed * frame}; }
Pose glide_right(double frame, double speed) { return {.x = speed * frame}; }
Pose glide_up(double frame, double speed) { return {.y = -speed * frame}; }
Pose glide_down(double frame, double speed) { return {.y = speed * frame}; }

/// Height of a ball that is thrown up at phase 0 and comes back at phase 1, at most 1.
double hop(double phase) {
  const double part = phase - std::floor(phase);
  return 4.0 * part * (1.0 - part);
}

Pose bounce(double frame, double speed) { return {.y = -kHopHeight * speed * hop(frame / kHopFrames)}; }
Pose spin(double frame, double speed) { return {.angle = kTurn * speed * frame}; }
Pose grow(double frame, double speed) { return {.scale = 1.0 + kGrowth * speed * frame}; }

// Clockwise, from the top of the circle.
Pose orbit(double frame, double speed) {
  const double angle = 2.0 * kPi * frame / kRoundFrames, radius = kRoundRadius * speed;
  return {.x = radius * std::sin(angle), .y = radius * (1.0 - std::cos(angle))};
}

double mean_of(const std::vector<double>& v) {
  double sum = 0.0;
  for (const double value : v) sum += value;
  return sum / static_cast<double>(v.size());
}

/// The least-squares fit value = offset + slope * base.
struct Line {
  double slope = 0.0, offset = 0.0, rms = 0.0;
};

Line fit(const std::vector<double>& base, const std::vector<double>& value) {
  const double n = static_cast<double>(base.size()), mean_b = mean_of(base), mean_v = mean_of(value);
  double bb = 0, bv = 0, rest = 0;
  for (size_t i = 0; i < base.size(); ++i) {
    bb += (base[i] - mean_b) * (base[i] - mean_b);
    bv += (base[i] - mean_b) * (value[i] - mean_v);
  }
  Line line;
  line.slope = bb > 0 ? bv / bb : 0.0;
  line.offset = mean_v - line.slope * mean_b;
  for (size_t i = 0; i < base.size(); ++i) {
    const double miss = value[i] - line.offset - line.slope * base[i];
    rest += miss * miss;
  }
  line.rms = std::sqrt(rest / n);
  return line;
}

bool within(double value, double unit, double slowest, double fastest) {
  return value >= kShyOf * unit * slowest && value <= kBeyond * unit * fastest;
}

double spread(const std::vector<double>& v) {
  const double mean = mean_of(v);
  double sum = 0.0;
  for (const double value : v) sum += (value - mean) * (value - mean);
  return std::sqrt(sum / static_cast<double>(v.size()));
}

// Far less than the slowest motion spreads: 23 frames at 0.7 px spread by 4.7 px.
bool stays(const std::vector<double>& v) { return spread(v) <= 2.0; }

// A glide is steady: the right way at about the right speed, hardly sideways, near its line, and seldom backwards.
bool glides(const Track& track, const std::vector<double>& along, const std::vector<double>& across, double sign,
            double slowest, double fastest) {
  constexpr double kMostMissPx = 2.5;
  if (track.frame.size() < 3) return false;
  const Line main = fit(track.frame, along), side = fit(track.frame, across);
  const double speed = sign * main.slope;
  if (!within(speed, 1.0, slowest, fastest)) return false;
  if (std::abs(side.slope) > 0.4 * speed || main.rms > kMostMissPx || side.rms > kMostMissPx) return false;
  int forward = 0;
  for (size_t i = 1; i < along.size(); ++i) forward += sign * (along[i] - along[i - 1]) > 0.0 ? 1 : 0;
  return forward >= 0.7 * static_cast<double>(along.size() - 1);
}

bool shows_left(const Track& t, double slowest, double fastest) { return glides(t, t.x, t.y, -1, slowest, fastest); }
bool shows_right(const Track& t, double slowest, double fastest) { return glides(t, t.x, t.y, 1, slowest, fastest); }
bool shows_up(const Track& t, double slowest, double fastest) { return glides(t, t.y, t.x, -1, slowest, fastest); }
bool shows_down(const Track& t, double slowest, double fastest) { return glides(t, t.y, t.x, 1, slowest, fastest); }

// Hops of any phase and of about the right length.
bool shows_bounce(const Track& track, double slowest, double fastest) {
  if (track.frame.size() < kFewestFrames || !stays(track.x)) return false;
  Line best{.rms = std::numeric_limits<double>::max()};
  for (double frames = 0.75 * kHopFrames; frames <= 1.25 * kHopFrames; frames += 0.5) {
    for (double begin = 0.0; begin < frames; begin += 0.5) {
      std::vector<double> height;
      for (const double frame : track.frame) height.push_back(-hop((frame + begin) / frames));
      const Line line = fit(height, track.y);
      if (line.rms < best.rms) best = line;
    }
  }
  return within(best.slope, kHopHeight, slowest, fastest) && best.rms <= std::max(1.2, 0.12 * best.slope);
}

// The rate at which all angles, multiplied by the shape's symmetry, point the same way; a still shape's is 0. A few
// frames whose angle was misread do not move it.
bool shows_spin(const Track& track, double slowest, double fastest) {
  constexpr double kStep = kPi / 360.0, kMost = 25.0 * kPi / 180.0;  // beyond, five points alias
  constexpr double kLeastAgreement = 0.7;
  if (track.angle.size() < kFewestFrames || track.period <= 0.0 || !stays(track.x) || !stays(track.y)) return false;
  double best = 0.0, rate = 0.0;
  for (double next = -kMost; next <= kMost; next += kStep) {
    std::complex<double> sum = 0.0;
    for (size_t i = 0; i < track.angle.size(); ++i)
      sum += std::polar(1.0, 2.0 * kPi / track.period * (track.angle[i] - next * track.frame[i]));
    const double agreement = std::abs(sum) / static_cast<double>(track.angle.size());
    if (agreement > best) best = agreement, rate = next;
  }
  return best >= kLeastAgreement && within(std::abs(rate), kTurn, slowest, fastest);
}

bool shows_grow(const Track& track, double slowest, double fastest) {
  if (track.frame.size() < 3 || !stays(track.x) || !stays(track.y)) return false;
  const Line line = fit(track.frame, track.radius);
  if (line.offset <= 0.0 || !within(line.slope / line.offset, kGrowth, slowest, fastest)) return false;
  return line.rms <= 0.05 * mean_of(track.radius) + 0.3;
}

// A circle either way round, from any place on it, in about the right time.
bool shows_orbit(const Track& track, double slowest, double fastest) {
  using Complex = std::complex<double>;
  const size_t n = track.frame.size();
  if (n < kFewestFrames) return false;
  const Complex middle(mean_of(track.x), mean_of(track.y));
  double least = std::numeric_limits<double>::max(), radius = 0.0;
  for (double frames = 0.75 * kRoundFrames; frames <= 1.35 * kRoundFrames; frames += 0.5) {
    for (const double way : {1.0, -1.0}) {
      std::vector<Complex> circle;
      Complex mean = 0.0, both = 0.0;
      double own = 0.0, rest = 0.0;
      for (const double frame : track.frame) circle.push_back(std::polar(1.0, way * 2.0 * kPi * frame / frames));
      for (const Complex& c : circle) mean += c / static_cast<double>(n);
      const auto seen = [&](size_t i) { return Complex(track.x[i], track.y[i]) - middle; };
      for (size_t i = 0; i < n; ++i) both += std::conj(circle[i] - mean) * seen(i), own += std::norm(circle[i] - mean);
      const Complex size = own > 0.0 ? both / own : 0.0;
      for (size_t i = 0; i < n; ++i) rest += std::norm(seen(i) - size * (circle[i] - mean));
      if (rest < least) least = rest, radius = std::abs(size);
    }
  }
  const double rms = std::sqrt(least / static_cast<double>(n));
  return within(radius, kRoundRadius, slowest, fastest) && rms <= std::max(1.2, 0.15 * radius);
}

const std::vector<Verb>& gliding() {
  static const std::vector<Verb> verbs = {{"moves", "moving"},    {"slides", "sliding"},    {"glides", "gliding"},
                                          {"drifts", "drifting"}, {"travels", "traveling"}, {"goes", "going"},
                                          {"floats", "floating"}};
  return verbs;
}

}  // namespace

bool turns(const MotionRow& motion) { return motion.pose(1.0, 1.0).angle != 0.0; }

std::span<const MotionRow> motion_rows() {
  static const std::vector<MotionRow> rows = {
      {"left",
       gliding(),
       {"left", "to the left", "to the left", "leftward", "towards the left", "from right to left"},
       {},
       glide_left,
       shows_left},
      {"right",
       gliding(),
       {"right", "to the right", "to the right", "rightward", "towards the right", "from left to right"},
       {},
       glide_right,
       shows_right},
      {"up",
       gliding(),
       {"up", "up", "upward", "upwards", "to the top", "from bottom to top"},
       {{"rises", "rising"}, {"climbs", "climbing"}},
       glide_up,
       shows_up},
      {"down",
       gliding(),
       {"down", "down", "downward", "downwards", "to the bottom", "from top to bottom"},
       {{"sinks", "sinking"}, {"falls", "falling"}},
       glide_down,
       shows_down},
      {"bounce",
       {},
       {},
       {{"bounces", "bouncing"},
        {"bounces", "bouncing"},
        {"bounces", "bouncing"},
        {"bounces up and down", "bouncing up and down"},
        {"jumps", "jumping"},
        {"jumps up and down", "jumping up and down"},
        {"hops", "hopping"},
        {"hops up and down", "hopping up and down"}},
       bounce,
       shows_bounce},
      {"spin",
       {},
       {},
       {{"spins", "spinning"},
        {"spins", "spinning"},
        {"spins", "spinning"},
        {"spins around", "spinning around"},
        {"spins in place", "spinning in place"},
        {"rotates", "rotating"},
        {"rotates in place", "rotating in place"},
        {"turns around", "turning around"}},
       spin,
       shows_spin},
      {"grow",
       {},
       {},
       {{"grows", "growing"},
        {"grows", "growing"},
        {"grows", "growing"},
        {"grows bigger", "growing bigger"},
        {"gets bigger", "getting bigger"},
        {"gets larger", "getting larger"},
        {"expands", "expanding"}},
       grow,
       shows_grow},
      {"orbit",
       {},
       {},
       {{"orbits", "orbiting"},
        {"orbits", "orbiting"},
        {"circles", "circling"},
        {"circles around", "circling around"},
        {"moves in a circle", "moving in a circle"},
        {"moves in a circle", "moving in a circle"},
        {"goes in a circle", "going in a circle"},
        {"travels in circles", "traveling in circles"}},
       orbit,
       shows_orbit},
  };
  return rows;
}

}  // namespace kinora::world
