"""An attempt that goes on with an answer of which earlier attempts have brought a part.

`finding.find_seam(job, node, before)` reads what they said and gives a `seam.Seam`, None where the answer begins
afresh, or raises EngineFailed with the code `cannot_continue`; `obstacles` lists why. `relay_answer(…, seam)` asks the
engine to go on and makes the rest fit what the client has.
"""
