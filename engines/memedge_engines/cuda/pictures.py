"""Frames to the tensor of one input on the GPU: one upload, one launch of the preprocessing kernel.

How an executor uses it, from its bound worker thread::

    maker = PicturesToTensor(driver, contract, storage, max_batch=4, slots=2)
    maker.picture_shape(frame)              # (C, h, w); the same for every frame when the contract fixes the size
    maker.prepare(slot, frames, target)     # host work: staging memory and the slot's parameter block are written
    maker.upload(slot, copy_stream)         # queues the copies to the device, of any size; outside a captured graph
    maker.launch(slot, stream)              # queues one kernel; may be captured
    maker.enqueue(slot, frames, target, stream)     # the three in one stream

- A *slot* is one set of staging memory and parameter block. ``prepare`` may write it only when all work that was queued
  from it is done (wait for the event behind its launch); two slots overlap the upload of frame n+1 with the work on n.
- A captured ``launch(slot, stream)`` stays valid for every later ``prepare`` of the same slot whose
  :meth:`PicturesToTensor.signature` is the same: geometry, colour, formats, addresses and the target are read from the
  parameter block. Different signature (another number of frames or another picture size): another graph.
- ``target`` is the device address of ``[len(frames), C, h, w]`` elements of the input's dtype, contiguous.
- Frames stay the caller's. Host frames may be released when ``prepare`` has returned (their planes were copied into
  staging memory); page-locked and device frames are read by ``upload`` and by the kernel: release them when the work is
  done.
- ``prepare``, ``upload`` and ``launch`` raise :class:`FrameError` / :class:`PreprocessError` for what cannot be done and
  :class:`CudaError` from the driver.
- ``close`` frees everything, after the caller has waited for what it queued and destroyed graphs that were captured.
"""
