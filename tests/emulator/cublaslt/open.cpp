// Prints what open_library has found of the file named by its argument: "found", or the problem.
#include <cstdio>

#include "cuda/open_library.h"

int main(int, char** arguments) {
  std::string problem;
  std::puts(dragoman::cuda::open_library(arguments[1], "cu13", problem) != nullptr ? "found"
                                                                                   : problem.c_str());
}
