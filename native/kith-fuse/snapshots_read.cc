// Reading files of snapshots. A small file comes whole, and once a reader goes from file to file in a directory, those after it
// come along (snapshot_contents.h): what a search through a snapshot costs is then mostly opening files.
#include "snapshots_tree.h"

void Snapshots::Tree::read(uint64_t unique, uint64_t id, const fuse_read_in* in) {
  if (!in) return fail(unique, EINVAL);
  if (readSmall(unique, id, *in)) return;
  auto request = path(id);
  if (!request) return fail(unique, ESTALE);
  const uint32_t size = std::min<uint32_t>(in->size, wire::maxTransfer);
  request->integer(in->offset);
  request->integer(size);
  send(BridgeRequest::read, unique, std::move(*request),
       [unique, size](Tree& self, const uint8_t* payload, size_t length) {
         if (length > size) return self.fail(unique, EIO);
         self.reply_(unique, 0, payload, length);
       });
}

// Answers from what was sent ahead, or asks for more of it. False when the file is to be read by itself.
bool Snapshots::Tree::readSmall(uint64_t unique, uint64_t id, const fuse_read_in& in) {
  std::unique_lock lock(mutex_);
  auto found = nodes_.find(id);
  if (found == nodes_.end() || found->second.fileBytes == 0) return false;
  const uint64_t parent = found->second.parent, bytes = found->second.fileBytes;
  if (bytes > SnapshotContents::maxFileBytes) return false;
  const std::string name = found->second.name, key = keyOf(parent, name, name);
  auto answer = [unique, offset = in.offset, size = in.size](Tree& self, const SnapshotContents::Bytes& content) {
    const uint64_t from = std::min<uint64_t>(offset, content->size());
    self.reply_(unique, 0, content->data() + from, std::min<uint64_t>(size, content->size() - from));
  };
  if (const auto content = contents_.find(key, parent)) {
    if (in.offset + in.size >= bytes) contents_.take(key);
    lock.unlock();
    answer(*this, content);
    return true;
  }
  const uint32_t wanted = in.offset == 0 ? contents_.wanted(parent) : 1;
  lock.unlock();
  if (wanted == 1) return false;
  auto request = path(parent);
  if (!request) return false;
  request->text(name);
  request->integer(wanted);
  send(BridgeRequest::files, unique, std::move(*request),
       [unique, parent, name, bytes, answer](Tree& self, const uint8_t* payload, size_t length) {
         FrameReader from(payload, length);
         SnapshotContents::Bytes own;
         std::unique_lock lock(self.mutex_);
         while (from.ok() && !from.atEnd()) {
           const std::string next = from.text();
           auto content = from.blob(from.integer<uint32_t>());
           if (!from.ok() || content.size() > SnapshotContents::maxFileBytes) break;
           if (next == name) own = std::make_shared<const std::vector<uint8_t>>(std::move(content));
           else self.contents_.put(keyOf(parent, next, next), std::move(content));
         }
         lock.unlock();
         if (!own || own->size() != bytes) return self.fail(unique, EIO);
         answer(self, own);
       });
  return true;
}
