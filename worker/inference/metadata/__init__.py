"""Generation data in pictures, ours and other programs': found, brought into one form, written. No torch.

`reading` is the entrance (`read_file`, `read_picture`), `infotext` the form that everything becomes.
What is read comes from strangers: sizes, depths and numbers of steps are bounded everywhere.
"""
