// Tiles of pixels, and the blocks of transformed tiles that minimal filtering works on.
#pragma once

#include "minimal_transform.h"

namespace fastgan {
namespace {

// Where the tiles lie in an image: tile (row, col) begins at pixel (step row - y, step col - x).
struct Placement {
  int64_t step, y, x;
};

// A rectangle of the tiles of every sample, numbered along rows, then down the image, then through the batch.
struct Tiles {
  int64_t B, row0, rows, col0, cols;
  int64_t height, width;  // of each tile in pixels: what of it lies in the image

  int64_t count() const { return B * rows * cols; }
};

struct Run {  // of neighbours: a part of one row of tiles, or several whole rows
  int64_t sample, row, col;
  int64_t rows, cols;
  int64_t offset;  // of the first one in its block
};

// Calls body(run) for the runs that the tiles first ... first + count - 1 consist of.
template <typename Body>
void for_each_run(const Tiles& tiles, int64_t first, int64_t count, const Body& body) {
  for (int64_t done = 0; done < count;) {
    const int64_t tile = first + done, col = tile % tiles.cols, line = tile / tiles.cols;
    const int64_t row = line % tiles.rows, whole = smaller((count - done) / tiles.cols, tiles.rows - row);
    const int64_t rows = col == 0 && whole > 1 ? whole : 1;
    const int64_t cols = rows > 1 ? tiles.cols : smaller(tiles.cols - col, count - done);
    body(Run{line / tiles.rows, tiles.row0 + row, tiles.col0 + col, rows, cols, done});
    done += rows * cols;
  }
}

// Transformed tiles of all channels: [place][chunk][tile][lane].
template <typename T>
struct Block {
  T* first;
  int64_t tiles, chunks;

  // The odd vector keeps the places of a tile from sharing a few sets of the cache.
  static int64_t pitch(int64_t tiles, int64_t chunks) { return (tiles * chunks + 1) * kLanes<T>; }
  static int64_t size(int64_t places, int64_t tiles, int64_t chunks) { return places * pitch(tiles, chunks); }
  int64_t place_pitch() const { return pitch(tiles, chunks); }
  int64_t chunk_pitch() const { return tiles * kLanes<T>; }
  T* at(int64_t place, int64_t chunk, int64_t tile) const {
    return first + place * place_pitch() + chunk * chunk_pitch() + tile * kLanes<T>;
  }
};

// Room for the pixels that a run of `tiles` reads or writes, `side` of them a tile, `step` apart: most of all
// where they lie in one row or one column.
template <typename T>
constexpr int64_t window_size(int64_t side, int64_t step, int64_t tiles) {
  return side * (step * tiles + side) * kLanes<T>;
}

// From the pixels of a run of tiles to their places, of a chunk of the image's channels to chunk `to_chunk`
// of the block; pixels outside of the image are zero.
template <typename Transform, typename T>
void transform_run(const T* images, const Image& of, int64_t chunk, const Run& run, const Placement& at,
                   T* scratch, const Block<T>& to, int64_t to_chunk) {
  constexpr int n = Transform::kIn;
  const int64_t row0 = at.step * run.row - at.y, col0 = at.step * run.col - at.x;
  const auto clip = [](int64_t i, int64_t size) { return i < 0 ? 0 : smaller(i, size); };
  const Window window{clip(row0, of.H), clip(row0 + at.step * (run.rows - 1) + n, of.H), clip(col0, of.W),
                      clip(col0 + at.step * (run.cols - 1) + n, of.W)};
  const LanesOfWindow<T> pixels =
      read_lanes(images + run.sample * of.size(), of, chunk * kLanes<T>, window, scratch);
  const auto load = [&](int64_t i, int64_t j) { return Simd<T>::load(pixels.at(i, j)); };
  const auto load_inside = [&](int64_t i, int64_t j) {
    return i >= 0 && i < of.H && j >= 0 && j < of.W ? load(i, j) : Vec<T>{};
  };
  for (int64_t r = 0; r < run.rows; ++r) {
    const int64_t row = row0 + at.step * r;
    const bool rows_inside = row >= 0 && row + n <= of.H;
    for (int64_t t = 0; t < run.cols; ++t) {
      const int64_t col = col0 + at.step * t;
      T* first = to.at(0, to_chunk, run.offset + r * run.cols + t);
      const auto store = [&](int i, int j, Vec<T> v) {
        Simd<T>::store(first + (Transform::kOut * i + j) * to.place_pitch(), v);
      };
      if (rows_inside && col >= 0 && col + n <= of.W) {
        transform_tile<Transform, T>([&](int i, int j) { return load(row + i, col + j); }, store);
      } else {
        transform_tile<Transform, T>([&](int i, int j) { return load_inside(row + i, col + j); }, store);
      }
    }
  }
}

// From the places of a run of tiles to their pixels, of a chunk of the block to chunk `to_chunk` of the
// image; pixels outside of the image are dropped.
template <typename Transform, typename T>
void pixels_of_run(const Block<T>& from, int64_t chunk, const Run& run, const Vec<T>& bias,
                   const Placement& at, T* scratch, T* images, const Image& of, int64_t to_chunk) {
  const int64_t row0 = at.step * run.row - at.y, col0 = at.step * run.col - at.x;
  const Window window{row0, smaller(row0 + at.step * run.rows, of.H), col0,
                      smaller(col0 + at.step * run.cols, of.W)};
  for (int64_t r = 0; r < run.rows; ++r) {
    const int64_t below = window.row1 - row0 - at.step * r;
    T* line = scratch + at.step * r * window.width() * kLanes<T>;
    for (int64_t t = 0; t < run.cols; ++t) {
      const T* first = from.at(0, chunk, run.offset + r * run.cols + t);
      const int64_t left = window.width() - at.step * t;
      const auto load = [&](int i, int j) {
        return Simd<T>::load(first + (Transform::kIn * i + j) * from.place_pitch());
      };
      const auto store = [&](int i, int j, Vec<T> y) {
        Simd<T>::store(line + (i * window.width() + at.step * t + j) * kLanes<T>, y + bias);
      };
      if (below >= at.step && left >= at.step) {
        transform_tile<Transform, T>(load, store);
      } else {
        transform_tile<Transform, T>(load, [&](int i, int j, Vec<T> y) {
          if (i < below && j < left) store(i, j, y);
        });
      }
    }
  }
  write_lanes(scratch, of, to_chunk * kLanes<T>, window, images + run.sample * of.size());
}

}  // namespace
}  // namespace fastgan
