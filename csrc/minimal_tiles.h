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
    body(Run{line / tiles.rows, tiles.row0 + line % tiles.rows, tiles.col0 + col, n, done});
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
  static int64_t size(int64_t places, int64_t tiles, int64_t chunks) { return places * pitch(tiles, chunks); }
  int64_t place_pitch() const { return pitch(tiles, chunks); }
  int64_t chunk_pitch() const { return tiles * kLanes<T>; }
  T* at(int64_t place, int64_t chunk, int64_t tile) const {
    return first + place * place_pitch() + chunk * chunk_pitch() + tile * kLanes<T>;
  }
};

// Room for the pixels that `tiles` neighbours read or write, `side` of them a tile, `step` apart.
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
  const Window window{clip(row0, of.H), clip(row0 + n, of.H), clip(col0, of.W),
                      clip(col0 + at.step * (run.count - 1) + n, of.W)};
  const LanesOfWindow<T> pixels =
      read_lanes(images + run.sample * of.size(), of, chunk * kLanes<T>, window, scratch);
  const auto load = [&](int64_t i, int64_t j) { return Simd<T>::load(pixels.at(i, j)); };
  const auto load_inside = [&](int64_t i, int64_t j) {
    return i >= 0 && i < of.H && j >= 0 && j < of.W ? load(i, j) : Vec<T>{};
  };
  const bool rows_inside = row0 >= 0 && row0 + n <= of.H;
  for (int64_t t = 0; t < run.count; ++t) {
    const int64_t col = col0 + at.step * t;
    T* first = to.at(0, to_chunk, run.offset + t);
    const auto store = [&](int i, int j, Vec<T> v) {
      Simd<T>::store(first + (Transform::kOut * i + j) * to.place_pitch(), v);
    };
    if (rows_inside && col >= 0 && col + n <= of.W) {
      transform_tile<Transform, T>([&](int i, int j) { return load(row0 + i, col + j); }, store);
    } else {
      transform_tile<Transform, T>([&](int i, int j) { return load_inside(row0 + i, col + j); }, store);
    }
  }
}

// From the places of a run of tiles to their pixels, of a chunk of the block to chunk `to_chunk` of the
// image; pixels outside of the image are dropped.
template <typename Transform, typename T>
void pixels_of_run(const Block<T>& from, int64_t chunk, const Run& run, const Vec<T>& bias,
                   const Placement& at, T* scratch, T* images, const Image& of, int64_t to_chunk) {
  const int64_t row0 = at.step * run.row - at.y, col0 = at.step * run.col - at.x;
  const Window window{row0, smaller(row0 + at.step, of.H), col0, smaller(col0 + at.step * run.count, of.W)};
  const int64_t rows = window.row1 - row0;
  for (int64_t t = 0; t < run.count; ++t) {
    const T* first = from.at(0, chunk, run.offset + t);
    const int64_t left = window.width() - at.step * t;
    const auto load = [&](int i, int j) {
      return Simd<T>::load(first + (Transform::kIn * i + j) * from.place_pitch());
    };
    const auto store = [&](int i, int j, Vec<T> y) {
      Simd<T>::store(scratch + (i * window.width() + at.step * t + j) * kLanes<T>, y + bias);
    };
    if (rows == at.step && left >= at.step) {
      transform_tile<Transform, T>(load, store);
    } else {
      transform_tile<Transform, T>(load, [&](int i, int j, Vec<T> y) {
        if (i < rows && j < left) store(i, j, y);
      });
    }
  }
  write_lanes(scratch, of, to_chunk * kLanes<T>, window, images + run.sample * of.size());
}

}  // namespace
}  // namespace fastgan
