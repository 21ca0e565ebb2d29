// Tiles of 2x2 pixels, and the blocks of transformed tiles that conv3x3 works on.
#pragma once

#include "conv3x3_transforms.h"

namespace fastgan {
namespace {

constexpr int kPlaces = 16;  // of a transformed tile

// Numbered along rows, then down the image, then through the batch.
struct Tiles {
  int64_t B, rows, cols;

  Tiles(int64_t B, const Image& of) : B(B), rows(ceil_div(of.H, 2)), cols(ceil_div(of.W, 2)) {}
  int64_t count() const { return B * rows * cols; }
};

struct Run {  // of neighbours in one row of tiles
  int64_t sample, row, col, count;
  int64_t offset;  // of the first one in its block
};

// Calls body(run) for the runs that the tiles first ... first + count - 1 consist of.
template <typename Body>
void for_each_run(const Tiles& tiles, int64_t first, int64_t count, const Body& body) {
  for (int64_t done = 0; done < count;) {
    const int64_t tile = first + done, col = tile % tiles.cols, line = tile / tiles.cols;
    const int64_t n = smaller(tiles.cols - col, count - done);
    body(Run{line / tiles.rows, line % tiles.rows, col, n, done});
    done += n;
  }
}

// Transformed tiles of all channels: [place][chunk][tile][lane].
template <typename T>
struct Block {
  T* first;
  int64_t tiles, chunks;

  // The odd vector keeps the places of a tile from sharing a few sets of the cache.
  static int64_t pitch(int64_t tiles, int64_t chunks) { return (tiles * chunks + 1) * kLanes<T>; }
  static int64_t size(int64_t tiles, int64_t chunks) { return kPlaces * pitch(tiles, chunks); }
  int64_t place_pitch() const { return pitch(tiles, chunks); }
  int64_t chunk_pitch() const { return tiles * kLanes<T>; }
  T* at(int64_t place, int64_t chunk, int64_t tile) const {
    return first + place * place_pitch() + chunk * chunk_pitch() + tile * kLanes<T>;
  }
};

// Room for the pixels that `tiles` neighbours read or write.
template <typename T>
int64_t window_size(int64_t tiles) {
  return PixelsToPlaces::kIn * (2 * tiles + 2) * kLanes<T>;
}

// From the pixels of a run of tiles to their places; pixels outside of the image are zero.
template <typename Transform, typename T>
void transform_run(const T* images, const Image& of, int64_t chunk, const Run& run, int64_t pad_y,
                   int64_t pad_x, T* scratch, const Block<T>& to) {
  constexpr int n = Transform::kIn;
  const int64_t row0 = 2 * run.row - pad_y, col0 = 2 * run.col - pad_x;
  const auto clip = [](int64_t i, int64_t size) { return i < 0 ? 0 : smaller(i, size); };
  const Window window{clip(row0, of.H), clip(row0 + n, of.H), clip(col0, of.W),
                      clip(col0 + 2 * (run.count - 1) + n, of.W)};
  const LanesOfWindow<T> pixels =
      read_lanes(images + run.sample * of.size(), of, chunk * kLanes<T>, window, scratch);
  const auto load = [&](int64_t i, int64_t j) { return Simd<T>::load(pixels.at(i, j)); };
  const auto load_inside = [&](int64_t i, int64_t j) {
    return i >= 0 && i < of.H && j >= 0 && j < of.W ? load(i, j) : Vec<T>{};
  };
  const bool rows_inside = row0 >= 0 && row0 + n <= of.H;
  for (int64_t t = 0; t < run.count; ++t) {
    const int64_t col = col0 + 2 * t;
    T* first = to.at(0, chunk, run.offset + t);
    const auto store = [&](int i, int j, Vec<T> v) {
      Simd<T>::store(first + (4 * i + j) * to.place_pitch(), v);
    };
    if (rows_inside && col >= 0 && col + n <= of.W) {
      transform_tile<Transform, T>([&](int i, int j) { return load(row0 + i, col + j); }, store);
    } else {
      transform_tile<Transform, T>([&](int i, int j) { return load_inside(row0 + i, col + j); }, store);
    }
  }
}

// From the places of a run of tiles to their pixels.
template <typename T>
void pixels_of_run(const Block<T>& from, int64_t chunk, const Run& run, const Vec<T>& bias, T* scratch,
                   T* images, const Image& of) {
  const int64_t row0 = 2 * run.row, col0 = 2 * run.col;
  const Window window{row0, smaller(row0 + 2, of.H), col0, smaller(col0 + 2 * run.count, of.W)};
  for (int64_t t = 0; t < run.count; ++t) {
    const T* first = from.at(0, chunk, run.offset + t);
    const int64_t rows = window.row1 - row0, cols = smaller(2, window.width() - 2 * t);
    transform_tile<PlacesToPixels, T>(
        [&](int i, int j) { return Simd<T>::load(first + (4 * i + j) * from.place_pitch()); },
        [&](int i, int j, Vec<T> y) {
          if (i < rows && j < cols)
            Simd<T>::store(scratch + (i * window.width() + 2 * t + j) * kLanes<T>, y + bias);
        });
  }
  write_lanes(scratch, of, chunk * kLanes<T>, window, images + run.sample * of.size());
}

}  // namespace
}  // namespace fastgan
