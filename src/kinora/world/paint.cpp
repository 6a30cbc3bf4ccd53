#include "kinora/world/paint.h"

#include <algorithm>
#include <cmath>

namespace kinora::world {
namespace {

// Share of a pixel that lies inside an edge at this signed distance from its middle.
double coverage(double distance) { return std::clamp(0.5 - distance, 0.0, 1.0); }

}  // namespace

std::vector<uint8_t> paint_background(const BackgroundRow& row, int64_t height, int64_t width) {
  std::vector<uint8_t> picture;
  picture.reserve(static_cast<size_t>(height * width * 3));
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      const Rgb rgb = row.at(x + 0.5, y + 0.5, static_cast<double>(width), static_cast<double>(height));
      picture.insert(picture.end(), rgb.begin(), rgb.end());
    }
  }
  return picture;
}

void paint_figure(const Figure& figure, double outline_px, uint8_t* picture, int64_t height, int64_t width) {
  constexpr double kDark = 0.22;  // outline and marks, as a share of the colour
  const Form& form = figure.shape->form;
  const double reach = form.reach * figure.radius_px + 1.5;
  const auto low = [&](double middle) {
    return std::max<int64_t>(0, static_cast<int64_t>(std::floor(middle - reach)));
  };
  const auto high = [&](double middle, int64_t size) {
    return std::min(size, static_cast<int64_t>(std::ceil(middle + reach)));
  };
  const double cosine = std::cos(figure.angle), sine = std::sin(figure.angle);
  const double middle_u = form.x * figure.radius_px, middle_v = form.y * figure.radius_px;
  for (int64_t y = low(figure.y_px); y < high(figure.y_px, height); ++y) {
    for (int64_t x = low(figure.x_px); x < high(figure.x_px, width); ++x) {
      const double dx = x + 0.5 - figure.x_px, dy = y + 0.5 - figure.y_px;
      const double u = middle_u + cosine * dx + sine * dy, v = middle_v + cosine * dy - sine * dx;
      const double distance = figure.shape->outline(u, v, figure.radius_px);
      const double whole = coverage(distance);
      if (whole <= 0.0) continue;
      double light = coverage(distance + outline_px);
      if (light > 0.0 && figure.shape->mark) light *= 1.0 - coverage(figure.shape->mark(u, v, figure.radius_px));
      const double share = light + (whole - light) * kDark;
      uint8_t* pixel = picture + (y * width + x) * 3;
      for (size_t c = 0; c < 3; ++c)
        pixel[c] = static_cast<uint8_t>(pixel[c] * (1.0 - whole) + figure.rgb[c] * share + 0.5);
    }
  }
}

media::Frames render(const WorldConfig& config, const Scene& scene) {
  const std::vector<uint8_t> background =
      paint_background(background_row(scene.background), config.height, config.width);
  media::Frames clip = media::make_frames(config.frames, config.height, config.width, config.fps);
  for (int64_t frame = 0; frame < config.frames; ++frame)
    std::copy(background.begin(), background.end(), clip.frame(frame));
  for (const Object& object : scene.objects) {
    const MotionRow& motion = motion_row(object.motion);
    Figure figure{&shape_row(object.shape), colour_row(object.colour).rgb, 0, 0, 0};
    for (int64_t frame = 0; frame < config.frames; ++frame) {
      const Pose pose = motion.pose(static_cast<double>(frame), object.speed_px);
      figure.x_px = object.x_px + pose.x;
      figure.y_px = object.y_px + pose.y;
      figure.radius_px = object.radius_px * pose.scale;
      figure.angle = pose.angle;
      paint_figure(figure, config.outline_px, clip.frame(frame), config.height, config.width);
    }
  }
  return clip;
}

}  // namespace kinora::world
