// Many requests side by side: each step is one step of the model for all of them. Not thread-safe.
#pragma once

#include <exception>
#include <map>

#include "decode/search.h"
#include "decode/steps.h"

namespace dragoman {

class Generation {
 public:
  Generation(std::shared_ptr<Steps> steps, Vocabulary vocabulary);
  Generation(const Generation&) = delete;  // searches refer to its vocabulary
  Generation& operator=(const Generation&) = delete;

  // Returns the request's key: 0, 1, 2 and so on. It joins at the next step.
  int64_t add(Entry entry, const SearchOptions& options);
  // One step of all requests. Returns the keys of those that ended. When the model throws, all requests are
  // gone.
  std::vector<int64_t> step();
  // The result of a request that has ended; the request is forgotten. Throws the error that ended it:
  // FloatingPointError where its logits are not finite, ValueError where its options leave no token.
  // ValueError for the key of no such request.
  std::vector<Hypothesis> take(int64_t key);
  // The ids that all hypotheses of a request share, which its result begins with: a stream's text so far.
  std::vector<int32_t> stable(int64_t key) const;
  void cancel(int64_t key);  // its rows leave at the next step; nothing for a key that is gone
  int64_t rows() const;      // live rows
  int64_t pending() const;   // requests whose keys step() has not returned yet

 private:
  struct Request {
    int64_t key;
    Entry entry;
    SearchOptions options;
    std::unique_ptr<Search> search;
    int64_t first_row = 0;  // of its rows among the model's rows
  };
  struct Ended {
    std::vector<Hypothesis> result;
    std::exception_ptr error;
  };

  // Tells the model what the next step needs: attention, where a search reads it; the logits of a shortlist,
  // where all requests share one, else all logits.
  void prepare();
  std::vector<int32_t> shared_shortlist() const;  // empty: none
  void advance();                                 // one step of the running requests
  void join();                                    // the waiting requests join, with their first step
  // One step of each request's search. The rows of `logits` are those of the model from `first_row` on.
  void search(const Tensor& logits, std::vector<Request>& requests, int64_t first_row);
  // Moves the requests that have ended from `requests` to `ended_`, and adds their keys.
  void settle(std::vector<Request>& requests, std::vector<int64_t>& keys);
  void leave();  // takes all rows out of the model

  std::shared_ptr<Steps> steps_;
  Vocabulary vocabulary_;
  int64_t next_key_ = 0;
  int64_t model_rows_ = 0;  // rows that the model holds
  bool keeps_attention_ = false;
  std::vector<int32_t> shortlist_;
  std::vector<Request> running_, waiting_;  // running: in the order of their rows
  std::map<int64_t, Ended> ended_;
  std::vector<int64_t> done_;  // ended before their first step
};

}  // namespace dragoman
