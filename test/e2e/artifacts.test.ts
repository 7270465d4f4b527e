import { toolSetting } from '../fixtures/tool-setting.ts'
import { describeFiles } from './files-suite.ts'

describeFiles(toolSetting('cold'))
